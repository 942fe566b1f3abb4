"""Runs the gevent server on a listening socket until a signal ends it: alone, or as one worker of several."""

import gc
import logging
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import gevent

from kvss_gevent.core.conversation import Conversation, Limits
from kvss_gevent.core.lab_commands import Lab
from kvss_gevent.core.service import Converse, Service
from kvss_gevent.core.session import Session
from kvss_gevent.core.shared_counters import BEAT_S, WorkerCounters
from kvss_gevent.server import descriptors
from kvss_gevent.server.gevent_server import KVServer
from kvss_gevent.server.service_manager import notify, notify_reloading
from kvss_gevent.server.supervisor import Supervisor, WorkerContext
from kvss_gevent.settings.config import Config
from kvss_gevent.settings.fail import Fail
from kvss_gevent.settings.log import NOTICE
from kvss_gevent.settings.reload import reloaded
from kvss_gevent.settings.signals import Act, handle, shown
from kvss_gevent.stores.base import Store
from kvss_gevent.stores.disk.group_commit import with_group_commit
from kvss_gevent.stores.open import open_store
from kvss_gevent.stores.remote.greenlet_store import for_greenlets

logger = logging.getLogger("kvss")


class Recorder(Protocol):
    """Keeps what happened last; `kvss serve` has one where --flight-recorder asks for it."""

    @property
    def converse(self) -> Callable[[Service], Conversation]:
        """Makes the conversations of a service, such that the recorder hears of them."""

    def dump(self, number: int, /) -> None:
        """Have what is kept written, in the background, as a signal asks for it."""


@dataclass(frozen=True, slots=True)
class Outside:
    """What a running server needs of the command that started it."""

    reread: Callable[[], Config]
    """Reads the settings again, for SIGHUP. Raises Fail."""
    on_ready: Callable[[socket.socket], None]
    """Called with the listening socket once the server, or all of its workers, accept."""
    converse: Converse = Session
    recorder: Callable[[Config], Recorder | None] = lambda _: None
    """Makes the recorder of a process, where the settings ask for one."""


def serve(
    listener: socket.socket, config: Config, store: Store, outside: Outside, worker: WorkerContext | None = None
) -> int:
    """Serve until a signal of the table in settings/signals.py ends it; returns the exit code."""
    gevent.config.track_greenlet_tree = False  # a debugging aid that costs a walk up the stack for every connection
    recorder = outside.recorder(config)
    service = Service(
        for_greenlets(with_group_commit(store, on_thread=config.sync != "none")),
        _limits(config),
        stats_format=config.stats_format,
        stats=worker.counters if worker else None,
        colleagues=worker.colleagues if worker else (),
        lab=Lab() if config.lab else None,
        converse=recorder.converse if recorder else outside.converse,
    )
    server = KVServer(listener, service, descriptors.fit(config), worker.someone_is_freer if worker else None)
    stop = gevent.event.Event()
    why = ""

    def drain(number: int) -> None:
        nonlocal why
        if stop.is_set():
            os._exit(128 + number)
        why = shown(number)
        logger.info("%s: draining", why)
        stop.set()

    def reload(_: int) -> None:
        nonlocal config
        notify_reloading()
        config = reloaded(config, outside.reread, tell=worker is None)
        service.limits = _limits(config)
        server.config = descriptors.fit(config)
        notify("READY=1")

    def report(_: int) -> None:
        logger.log(NOTICE, "%s", service.stats_reply(service.stats.commands).decode().rstrip().removeprefix("200 OK "))

    def ignore(number: int) -> None:
        logger.log(NOTICE, "%s has no meaning here and is ignored", shown(number))

    acts = {Act.DRAIN: drain, Act.RELOAD: reload, Act.REPORT: report, Act.IGNORE: ignore}
    if recorder:
        acts[Act.DUMP] = recorder.dump
    handle(
        acts,
        lambda number, handler: gevent.signal_handler(number, handler, number),
        but=("SIGINT",) if worker else (),
    )
    server.start()
    # What exists now stays: the collector need not walk it again and again.
    gc.collect()
    gc.freeze()
    if worker:
        orphaned = gevent.get_hub().loop.io(worker.parent_gone, 1)
        orphaned.start(stop.set)
        gevent.spawn(_beat, worker.counters)
        worker.counters.beat()
        worker.ready()
    else:
        outside.on_ready(listener)
        notify("READY=1")
    stop.wait()
    if not worker:
        notify("STOPPING=1")
    in_time = server.drain(config.drain_timeout_s)
    if not in_time:
        logger.warning(
            "some clients were not done within --drain-timeout (%g s) and were cut off", config.drain_timeout_s
        )
    store.close()
    if not worker:
        logger.log(NOTICE, "stopped by %s; %s", why, "every client was answered" if in_time else "some were cut off")
    return 0


def serve_with_workers(listener: socket.socket, config: Config, outside: Outside) -> int:
    """Run config.workers processes on one listening socket until a signal ends them; returns the exit code."""

    def work(worker: WorkerContext) -> int:
        try:
            return serve(listener, config, open_store(config), outside, worker)
        except Fail as fail:
            fail.show()
            return fail.code

    def reload() -> None:
        nonlocal config
        notify_reloading()
        config = reloaded(config, outside.reread)
        notify("READY=1")

    def ready() -> None:
        outside.on_ready(listener)
        notify("READY=1")

    return Supervisor(config.workers, work, listener, config.drain_timeout_s).run(ready, reload)


def _limits(config: Config) -> Limits:
    return Limits(line_bytes=config.max_line_bytes, reply_bytes=config.max_unsent_bytes)


def _beat(counters: WorkerCounters) -> None:
    while True:
        counters.beat()
        gevent.sleep(BEAT_S)
