"""A server of any model that notes its events in a ring: a small `kvss serve` for scenes.

Run as `python -m kvss_gevent.trace.scenes.scene_server MODEL SCENE DIRECTORY`, it says where it listens and
serves until SIGTERM.
"""

import gc
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from kvss_gevent import models
from kvss_gevent.core.lab_commands import Lab
from kvss_gevent.core.service import Service
from kvss_gevent.core.session import Session
from kvss_gevent.models.contract import Ground
from kvss_gevent.settings.config import Config
from kvss_gevent.stores.base import CannotOpen, Store
from kvss_gevent.stores.open import open_store
from kvss_gevent.trace.events import What
from kvss_gevent.trace.noted_conversation import Tracer, cpu_clock
from kvss_gevent.trace.ring import Ring
from kvss_gevent.trace.scenes.catalogue import SCENES
from kvss_gevent.trace.scenes.scene import Scene
from kvss_gevent.trace.scenes.stalling_store import StallingStore

RING = "events"
BACKLOG = 128


def main(model_name: str, scene_name: str, directory: str) -> None:
    """Serve a scene with a model until SIGTERM."""
    model, scene = models.load(model_name), SCENES[scene_name]
    shared = bool(model.SHARED)
    store = f"disk:{directory}/store" if shared else "memory:"
    config = Config(port=0, store=store, sync="none", pool_size=scene.pool_size, model=model_name, lab=True)
    ring = Ring(Path(directory) / RING)
    ring.follow_forks()
    trace = Tracer(Session, ring.put, cpu_clock)
    stalls = needs_stalling(scene)

    def open_service(wait: Callable[[float], object] = time.sleep) -> Service:
        # The first reading of the serving thread's clocks: without it, the first wait in a loop would have no cause.
        now = cpu_clock()()
        ring.put((What.OPEN, 0, now, now, threading.get_native_id(), os.getpid(), b""))
        opened: Store = open_store(config)
        return Service(StallingStore(opened, wait) if stalls else opened, lab=Lab(), converse=trace)

    if shared:
        open_store(config).close()  # so that its modules are imported before the first fork
    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    listener.setblocking(False)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    gc.collect()
    gc.freeze()
    gc.disable()  # a collection would be a wait without a cause
    print(f"listening on 127.0.0.1:{listener.getsockname()[1]}", flush=True)
    if model_name == models.DEFAULT:
        serve_product(listener, config, open_service)
    else:
        signal.signal(signal.SIGTERM, _end)
        model.serve(Ground(listener, open_service, config))


def needs_stalling(scene: Scene) -> bool:
    """Tell whether a scene needs a store that waits; the others keep the fast path to the store in memory."""
    return any(b" stall:" in ask.packet for client in scene.clients for ask in client.asks)


def serve_product(
    listener: socket.socket, config: Config, open_service: Callable[[Callable[[float], object]], Service]
) -> None:
    """Serve with the gevent server, in which a store's wait lets the event loop go on."""
    import gevent
    import gevent.event

    from kvss_gevent.server.gevent_server import KVServer

    server = KVServer(listener, open_service(gevent.sleep), config)
    stop = gevent.event.Event()
    gevent.signal_handler(signal.SIGTERM, stop.set)
    server.start()
    stop.wait()


def _end(*_: int | FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    sys.tracebacklimit = 0  # whoever records shows the first line of what is said here
    try:
        main(*sys.argv[1:])
    except CannotOpen as error:
        sys.exit(f"{error.cause}; {error.remedy}")
