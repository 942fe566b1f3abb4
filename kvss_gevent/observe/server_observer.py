"""Observes a whole server: metrics and slow log of all its processes. It is made before the workers are forked."""

import socket
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final

import gevent

from kvss_gevent.core.service import Service
from kvss_gevent.observe.observer import Observer
from kvss_gevent.observe.openmetrics import CONTENT_TYPE, render
from kvss_gevent.observe.page_server import HttpAnswer, PageServer, Recent
from kvss_gevent.observe.shared_figures import SharedFigures

STORE_S: Final = 1.0
"""The longest time for a store to count its keys."""
REFUSING_S: Final = 5.0
"""After a failed command the server is not ready for this long, unless its store is tried again and works."""


class ServerObserver:
    """The figures that all workers share, and the socket of the metrics if they are wanted."""

    def __init__(self, workers: int, listener: socket.socket | None, slow_ms: int) -> None:
        self._slow_ms = slow_ms
        self.figures = SharedFigures(workers)
        self.listener = listener

    def observer(self, number: int) -> Observer:
        """Return the observer of one process: that of worker `number`."""
        return Observer(self.figures.rows[number], number, self._slow_ms)

    def start(self, observer: Observer, service: Service, *, may_wait: bool, is_stopping: Callable[[], bool]) -> None:
        """Start to observe a serving process; may_wait: see Observer.start."""
        observer.start(service, may_wait=may_wait)
        if self.listener:
            PageServer(self.listener, self.pages(observer, service, is_stopping)).start()

    def pages(
        self, observer: Observer, service: Service, is_stopping: Callable[[], bool]
    ) -> Mapping[str, Callable[[], HttpAnswer]]:
        """Return the pages that a worker serves."""

        def metrics() -> HttpAnswer:
            keys = _keys(service)
            observer.note()
            text = render(
                self.figures, keys if isinstance(keys, int) else None, service.stats.uptime_s(), time.monotonic()
            )
            return HttpAnswer(text, content_type=CONTENT_TYPE)

        def ready() -> HttpAnswer:
            if is_stopping():
                return HttpAnswer("stopping\n", HTTPStatus.SERVICE_UNAVAILABLE)
            failed_s = time.monotonic() - observer.failed_s
            if failed_s < REFUSING_S:
                return HttpAnswer(f"the store failed {failed_s:.1f} s ago\n", HTTPStatus.SERVICE_UNAVAILABLE)
            keys = _keys(service)
            if not isinstance(keys, int):
                return HttpAnswer(f"the store does not answer: {keys}\n", HTTPStatus.SERVICE_UNAVAILABLE)
            return HttpAnswer("ready\n")

        return {"/metrics": Recent(metrics), "/healthz": lambda: HttpAnswer("alive\n"), "/readyz": Recent(ready)}


def _keys(service: Service) -> int | Exception:
    """Return the number of keys, or why the store does not give it.

    The store is asked in a greenlet of its own, because some stores must not be interrupted while they wait.
    """
    asked = gevent.spawn(_count, service)
    try:
        found: int | Exception = asked.get(timeout=STORE_S)
    except gevent.Timeout:
        return TimeoutError(f"nothing came in {STORE_S:g} s")
    return found


def _count(service: Service) -> int | Exception:
    try:
        return service.store.count()
    except Exception as fault:
        return fault
