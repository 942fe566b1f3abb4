"""Records a scene with one model: starts its server, plays the clients, and reads the events."""

import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kvss_gevent.measure.launch import LaunchError, launched
from kvss_gevent.measure.process_usage import thread_times
from kvss_gevent.trace.ring import Noted, read
from kvss_gevent.trace.scenes.played import Played
from kvss_gevent.trace.scenes.player import PlayError, play
from kvss_gevent.trace.scenes.scene import Scene

RING = "events"
PREFORKED = "prefork"
"""The model whose processes exist before the clients come."""


@dataclass(frozen=True, slots=True)
class Recording:
    """What clients and server noted in one scene with one model. lost: the number of events that the ring lost."""

    model: str
    scene: Scene
    played: Played
    noted: list[Noted]
    lost: int


def record(scene: Scene, model: str, at: Callable[[int, float], None] | None = None) -> Recording:
    """Play a scene with a model. Raises PlayError; its message says what went wrong.

    at, if given, is called with the server's process and the time in ms whenever the clients wake up.
    """
    with tempfile.TemporaryDirectory(prefix="kvss-show-") as directory:
        words = [sys.executable, "-m", "kvss_gevent.trace.scenes.scene_server", model, scene.name, directory]
        at_once = scene.pool_size if model == PREFORKED else 1
        try:
            with launched(words) as server:
                pid = server.pid
                try:
                    played = play(
                        scene, server.port, at_once, lambda: thread_times(pid), at and (lambda now_ms: at(pid, now_ms))
                    )
                finally:
                    server.process.send_signal(signal.SIGCONT)  # at may have stopped it
        except LaunchError as error:
            raise PlayError(f"the server did not start: {error}") from None
        except OSError as error:
            raise PlayError(f"the scene was broken off: {error}") from None
        noted, lost = read(Path(directory) / RING)
    return Recording(model, scene, played, noted, lost)
