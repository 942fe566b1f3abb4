"""Records a scene with one model: starts its server, plays the clients, and reads the events."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from kvss_gevent.measure.launch import end
from kvss_gevent.measure.process_usage import thread_times
from kvss_gevent.models.processes import end_with
from kvss_gevent.trace.ring import Noted, read
from kvss_gevent.trace.scenes.played import Played
from kvss_gevent.trace.scenes.player import PlayError, play
from kvss_gevent.trace.scenes.scene import Scene

START_LIMIT_S = 30.0
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
        try:
            with _serving(model, scene, directory) as (pid, port):
                at_once = scene.pool_size if model == PREFORKED else 1
                played = play(scene, port, at_once, lambda: thread_times(pid), at and (lambda now_ms: at(pid, now_ms)))
        except OSError as error:
            raise PlayError(f"the scene was broken off: {error}") from None
        noted, lost = read(Path(directory) / RING)
    return Recording(model, scene, played, noted, lost)


@contextlib.contextmanager
def _serving(model: str, scene: Scene, directory: str) -> Iterator[tuple[int, int]]:
    """Run the scene's server until the block ends; yields its process and its port."""
    parent = os.getpid()
    words = [sys.executable, "-m", "kvss_gevent.trace.scenes.scene_server", model, scene.name, directory]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            words,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            preexec_fn=lambda: end_with(parent),  # noqa: PLW1509 - this process has no threads
        )
        try:
            yield process.pid, _port(process, log)
        finally:
            process.send_signal(signal.SIGCONT)
            end(process)


def _port(process: "subprocess.Popen[str]", log: IO[str]) -> int:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], START_LIMIT_S)
    line = process.stdout.readline() if ready else ""
    if line.strip().isdigit():
        return int(line)
    log.seek(0)
    said = log.read().strip().splitlines()
    raise PlayError(f"the server did not start: {said[-1] if said else 'it said nothing'}")
