"""A small HTTP/1.1 server for the metrics: GET and HEAD of a few paths, one request a connection, all bounded."""

import logging
import socket
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import gevent
from gevent.lock import BoundedSemaphore
from gevent.server import StreamServer

logger = logging.getLogger("kvss")

MOST_CLIENTS: Final = 16
"""Clients that are served at once. One more takes the place of the oldest, so that silent ones keep nobody out."""
MOST_HEAD_BYTES: Final = 8192
DEADLINE_S: Final = 5.0
"""The time for a request to arrive and its answer to be taken."""
MOST_UNREAD: Final = 100
"""Pieces of a request that are read only to end the connection in order, at most."""
REST_S: Final = 0.5
FRESH_S: Final = 0.1
"""A page that is costly to make is made at most this often. In between, clients get the last one."""
TEXT: Final = "text/plain; charset=utf-8"


class HttpAnswer(NamedTuple):
    """An answer."""

    text: str
    status: HTTPStatus = HTTPStatus.OK
    content_type: str = TEXT


class Recent:
    """The answer of a function, made again if the last one is older than FRESH_S.

    Clients that ask while it is being made wait for it, so for a crowd it is made once. It raises what the function
    raises.
    """

    def __init__(self, make: Callable[[], HttpAnswer]) -> None:
        self._make = make
        self._being_made = BoundedSemaphore(1)
        self._last: HttpAnswer | None = None
        self._made_s = 0.0

    def __call__(self) -> HttpAnswer:
        """Return the answer."""
        with self._being_made:
            if self._last is None or time.monotonic() - self._made_s >= FRESH_S:
                self._last = self._make()
                self._made_s = time.monotonic()
            return self._last


class PageServer(StreamServer):  # type: ignore[misc]
    """Serves pages by path on a listening socket; start() and stop() are StreamServer's."""

    def __init__(self, listener: socket.socket, pages: Mapping[str, Callable[[], HttpAnswer]]) -> None:
        super().__init__(listener, self._serve)
        self._pages = pages
        self._serving: dict[gevent.Greenlet, Any] = {}
        """The clients with their sockets, the oldest first."""

    def do_read(self) -> Any:
        """Accept one client. Without a free descriptor, rest: gevent would write a traceback every second."""
        try:
            return super().do_read()
        except OSError:
            self.stop_accepting()
            gevent.spawn_later(REST_S, self._start_accepting_if_started)
            return None

    def do_handle(self, sock: Any, _: object) -> None:
        """Give the client a greenlet."""
        if len(self._serving) >= MOST_CLIENTS:
            oldest = next(iter(self._serving))
            oldest.kill(block=False)
            self._serving.pop(oldest).close()
        one = gevent.spawn(self._serve, sock)
        self._serving[one] = sock
        one.rawlink(lambda ended: self._serving.pop(ended, None))

    def _serve(self, sock: Any) -> None:
        try:
            with gevent.Timeout(DEADLINE_S, False):
                self._answer(sock)
        except OSError:
            pass  # the client has closed it already
        finally:
            sock.close()

    def _answer(self, sock: Any) -> None:
        head = b""
        while b"\r\n\r\n" not in head and b"\n\n" not in head:
            part = sock.recv(MOST_HEAD_BYTES)
            head += part
            if not part or len(head) > MOST_HEAD_BYTES:
                break
        method, page = self._find(head)
        body = page.text.encode()
        lines = (
            f"HTTP/1.1 {page.status.value} {page.status.phrase}",
            f"Content-Type: {page.content_type}",
            f"Content-Length: {len(body)}",
            "Connection: close",
            *(["Allow: GET, HEAD"] if page.status == HTTPStatus.METHOD_NOT_ALLOWED else []),
        )
        sock.sendall("\r\n".join([*lines, "", ""]).encode() + (b"" if method == b"HEAD" else body))
        # With bytes unread the end would be a reset, which can overtake the answer.
        sock.shutdown(socket.SHUT_WR)
        for _ in range(MOST_UNREAD):
            if not sock.recv(MOST_HEAD_BYTES):
                break

    def _find(self, head: bytes) -> tuple[bytes, HttpAnswer]:
        """Return the method of a request and the answer to it."""
        words = head.partition(b"\n")[0].split()
        if len(head) > MOST_HEAD_BYTES:
            return b"", HttpAnswer("the request is too long\n", HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return b"", HttpAnswer("this is no request of HTTP/1.1\n", HTTPStatus.BAD_REQUEST)
        method, target, _ = words
        if method not in (b"GET", b"HEAD"):
            return method, HttpAnswer("only GET and HEAD\n", HTTPStatus.METHOD_NOT_ALLOWED)
        make = self._pages.get(target.partition(b"?")[0].decode("latin-1"))
        if make is None:
            return method, HttpAnswer(f"there is only {', '.join(self._pages)}\n", HTTPStatus.NOT_FOUND)
        try:
            return method, make()
        except Exception:
            logger.exception("a page of the metrics could not be made")
            return method, HttpAnswer("a mistake of this server\n", HTTPStatus.INTERNAL_SERVER_ERROR)
