"""Runs the gevent server on a listening socket until a signal ends it: alone, or as one worker of several."""

import gc
import logging
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import gevent

from kvss_gevent.core.admin_commands import Admin
from kvss_gevent.core.conversation import Conversation, Limits
from kvss_gevent.core.lab_commands import Lab
from kvss_gevent.core.service import Converse, Service
from kvss_gevent.core.shared_counters import BEAT_S, WorkerCounters
from kvss_gevent.observe.blocking_watch import BlockingWatch
from kvss_gevent.observe.observer import Observer
from kvss_gevent.observe.server_observer import ServerObserver
from kvss_gevent.observe.slow_log import read_slow_log
from kvss_gevent.server.accepting import descriptors
from kvss_gevent.server.client_memory import keep_free_blocks
from kvss_gevent.server.gevent_server import KVServer
from kvss_gevent.server.security.protection import Protection
from kvss_gevent.server.service_manager import READY, STOPPING, notify, notify_reloading
from kvss_gevent.server.worker_context import WorkerContext
from kvss_gevent.settings.config import Config
from kvss_gevent.settings.fail import Exit, Fail, explained
from kvss_gevent.settings.log import LAST, NOTICE
from kvss_gevent.settings.reload import reloaded
from kvss_gevent.settings.signals import Act, handle, shown
from kvss_gevent.stores.base import Store
from kvss_gevent.stores.disk.file.same_file import SameFile
from kvss_gevent.stores.disk.gathering import gathering
from kvss_gevent.stores.open import open_store
from kvss_gevent.stores.remote.greenlet_store import for_greenlets

logger = logging.getLogger("kvss")

RECORDING_LIMIT_S = 5.0
"""How long the end waits for a flight recording that is being written; the longest takes about 2 s."""


class FlightRecording(Protocol):
    """Keeps the last events; `kvss serve` has one with --flight-recorder."""

    @property
    def converse(self) -> Callable[[Service], Conversation]:
        """Makes the conversations of a service, which report to the recorder."""

    def dump(self, number: int, /) -> None:
        """Write what is kept, in the background; a signal asks for it."""

    @property
    def is_writing(self) -> bool:
        """Whether it writes now, or will soon."""


@dataclass(frozen=True, slots=True)
class Outside:
    """What a running server needs from the command that started it."""

    reread: Callable[[], Config]
    """Reads the settings again, for SIGHUP. Raises Fail."""
    on_ready: Callable[[socket.socket], None]
    """Called with the listening socket once the server, or all of its workers, accept."""
    converse: Converse
    recorder: Callable[[Config], FlightRecording | None]
    """Makes the recorder of a process, if the settings ask for one."""


def observed(config: Config, metrics: socket.socket | None) -> ServerObserver | None:
    """Return the observer of the whole server: metrics and slow log, as far as the settings ask for them."""
    return ServerObserver(config.workers, metrics, config.slow_ms) if metrics or config.slow_ms else None


def serve(  # noqa: PLR0913, PLR0917 - what a server is made of
    listener: socket.socket,
    config: Config,
    store: Store,
    outside: Outside,
    server_observer: ServerObserver | None = None,
    worker: WorkerContext | None = None,
) -> int:
    """Serve until a signal of the table in settings/signals.py ends it; returns the exit code."""
    keep_free_blocks()
    gevent.config.track_greenlet_tree = False  # a debugging aid that costs a walk up the stack for every connection
    recorder = outside.recorder(config)
    protection = Protection(config)
    observer = server_observer.observer(worker.number if worker else 0) if server_observer else None
    service = _service(config, store, outside, worker, recorder, protection, observer)
    if not config.strict:
        figures = server_observer.figures if server_observer else None
        service.admin = Admin(lambda most: read_slow_log(figures, config.slow_ms, most))
    running = _Running(listener, config, service, outside, worker, protection, observer)
    handle(
        running.acts() | ({Act.DUMP: recorder.dump} if recorder else {}),
        lambda number, handler: gevent.signal_handler(number, handler, number),
        but=("SIGINT",) if worker else (),
    )
    running.server.start()
    if server_observer and observer:
        server_observer.start(observer, service, may_wait=service.may_wait, is_stopping=running.stop.is_set)
    if config.watch_blocking:
        BlockingWatch(config.watch_blocking, gevent.get_hub().loop).start()
    # Objects that exist now stay, so the garbage collector need not walk through them again and again.
    gc.collect()
    gc.freeze()
    if worker:
        orphaned = gevent.get_hub().loop.io(worker.parent_gone, 1)
        orphaned.start(running.stop.set)
        gevent.spawn(_beat, worker.counters)
        worker.counters.beat()
        worker.ready()
    else:
        outside.on_ready(listener)
        notify(READY)
    in_time = running.until_stopped()
    if observer:
        observer.stop()
    until_s = time.monotonic() + RECORDING_LIMIT_S
    while recorder and recorder.is_writing and time.monotonic() < until_s:
        gevent.sleep(0.05)
    store.close()
    if not worker:
        how = "every client was answered" if in_time else "some were cut off"
        logger.log(NOTICE, "stopped by %s; %s", running.stopped_by, how, extra=LAST)
    return 0


class _Running:
    """A server that accepts, and what each signal does to it."""

    def __init__(  # noqa: PLR0913, PLR0917 - what a running server consists of
        self,
        listener: socket.socket,
        config: Config,
        service: Service,
        outside: Outside,
        worker: WorkerContext | None,
        protection: Protection,
        observer: Observer | None,
    ) -> None:
        self.alone = worker is None
        """Whether there is no supervisor, which logs what concerns all workers and tells it to the service manager."""
        self.config = config
        self.service = service
        self.reread = outside.reread
        self.server = KVServer(
            listener,
            service,
            descriptors.fit(config, tell=self.alone),
            worker,
            observer,
        )
        self.protection = protection
        self.server.make_transport = protection.make_transport
        self.stop = gevent.event.Event()
        self.stopped_by = ""

    def acts(self) -> dict[Act, Callable[[int], None]]:
        """Return the function for each kind of signal."""
        return {Act.DRAIN: self.drain, Act.RELOAD: self.reload, Act.REPORT: self.report, Act.IGNORE: self.ignore}

    def drain(self, number: int) -> None:
        if self.stop.is_set():
            # A service manager signals the workers, too, and then they get a second signal from the supervisor. It is
            # the supervisor that ends them at once when it gets a second signal itself.
            if self.alone:
                os._exit(128 + number)
            return
        self.stopped_by = shown(number)
        logger.info("%s: draining", self.stopped_by)
        self.stop.set()

    def reload(self, _: int) -> None:
        if self.alone:
            notify_reloading()
        self.config = reloaded(self.config, self.reread, tell=self.alone)
        self.service.change_limits(_limits(self.config))
        self.server.config = descriptors.fit(self.config, tell=self.alone)
        self.protection.reload(self.config)
        for connection in list(self.server.connections):
            if self.protection.is_outdated(connection.session):
                connection.end("its user was removed or changed")
        self.server.make_transport = self.protection.make_transport
        if self.alone:
            notify(READY)

    def report(self, _: int) -> None:
        counters = self.service.stats_reply(self.service.stats.commands).decode()
        logger.log(NOTICE, "%s", counters.rstrip().removeprefix("200 OK "))

    def ignore(self, number: int) -> None:
        logger.log(NOTICE, "%s has no effect here and is ignored", shown(number))

    def until_stopped(self) -> bool:
        """Wait for the end, and drain; return whether every client was answered."""
        self.stop.wait()
        if self.alone:
            notify(STOPPING)
        self.protection.drain()
        in_time = self.server.drain(self.config.drain_timeout_s)
        if not in_time:
            logger.warning(
                "some clients did not finish within --drain-timeout (%g s) and were disconnected",
                self.config.drain_timeout_s,
            )
        return in_time


def serve_with_workers(listener: socket.socket, metrics: socket.socket | None, config: Config, outside: Outside) -> int:
    """Run config.workers processes on one listening socket until a signal ends them; returns the exit code."""
    if not hasattr(os, "fork"):
        raise Fail("this system cannot fork", "Remove --workers.", Exit.UNREACHABLE)
    from kvss_gevent.server.supervisor import RestartTimes, Supervisor

    is_up = False  # a worker has the value that the parent had at the worker's start

    def work(worker: WorkerContext) -> int:
        try:
            store = same_file.opened(lambda: open_store(config))
            return serve(listener, config, store, outside, server_observer, worker)
        except Exception as error:
            fail = explained(error)
            if fail is None:
                raise
            if is_up:
                logger.error("worker %d cannot serve: %s. %s", worker.number, fail.cause, fail.remedy)
            else:
                fail.show("kvss serve")
            return fail.code

    def reload() -> None:
        nonlocal config
        notify_reloading()
        config = reloaded(config, outside.reread)
        supervisor.drain_timeout_s = config.drain_timeout_s
        notify(READY)

    def ready() -> None:
        nonlocal is_up
        is_up = True
        outside.on_ready(listener)
        notify(READY)

    same_file = SameFile()
    server_observer = observed(config, metrics)
    descriptors.fit(config)  # only for its warning: each worker makes room for itself
    supervisor = Supervisor(config.workers, work, listener, config.drain_timeout_s, RestartTimes())
    return supervisor.run(ready, reload)


def _service(  # noqa: PLR0913, PLR0917 - the same
    config: Config,
    store: Store,
    outside: Outside,
    worker: WorkerContext | None,
    recorder: FlightRecording | None,
    protection: Protection,
    observer: Observer | None,
) -> Service:
    watched_or_not = observer.watched_lab if observer else Lab
    return Service(
        for_greenlets(gathering(store, synced=config.sync != "none")),
        _limits(config),
        strict=config.strict,
        stats_format=config.stats_format,
        stats=worker.counters if worker else None,
        colleagues=worker.colleagues if worker else (),
        lab=watched_or_not() if config.lab else None,
        converse=recorder.converse if recorder else outside.converse,
        login=protection.open if protection.authenticator else None,
        tally=observer,
    )


def _limits(config: Config) -> Limits:
    return Limits(line_bytes=config.max_line_bytes, reply_bytes=config.max_unsent_bytes)


def _beat(counters: WorkerCounters) -> None:
    while True:
        counters.beat()
        gevent.sleep(BEAT_S)
