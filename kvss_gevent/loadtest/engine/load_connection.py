"""One connection: one send for each batch, and one buffered reader of replies. request_stream.py judges the replies.

For every request, gevent's own sock.recv costs a failed recv, a Waiter, and a watcher that is started and stopped. Here
one watcher wakes the greenlet that holds the connection, which costs half. There is a rule: the watcher may run only
while its greenlet waits for nothing else (`hold` and `release` around a burst of requests).
"""

import socket
from collections import deque
from contextlib import suppress
from typing import Any

import gevent
from gevent import monkey
from gevent import socket as gevent_socket
from greenlet import getcurrent

from kvss_gevent.client.client_connection import reason
from kvss_gevent.loadtest.engine.clock import clock
from kvss_gevent.loadtest.load_options import Options
from kvss_gevent.loadtest.load_transport import MakeEnds, plain
from kvss_gevent.protocol.wire import shorten
from kvss_gevent.settings.addresses import parse_endpoint

_SMALL_RECEIVE_BYTES = 448
"""Python's own allocator has blocks of this size. If the buffer was full, the next one is larger."""
_RECEIVE_BYTES = 1 << 18
_MAX_REPLY_BYTES = (1 << 20) + 4096
_READ, _WRITE = 1, 2
_QUIT = b"KV/1.0 QUIT\n"
_LOCUST_SCHEMES = ("tcp", "kv")
_AUTHENTICATED = b"200 OK authenticated"


class ConnectionLost(Exception):
    """The connection is lost, could not be made, or cannot be used any more; the message is the name of a failure."""


class TlsRefused(ConnectionLost):
    """The server does not speak TLS, or its certificate is not trusted."""


class UserRefused(ConnectionLost):
    """The server did not take the login of a new connection."""


def address_of(host: str) -> tuple[str, int]:
    """Read a host as Locust has it: an address as in every command, or one after `tcp://` or `kv://`.

    Raises ValueError; its message says what is wrong.
    """
    scheme, _, place = host.strip().rpartition("://")
    endpoint = parse_endpoint(place.rstrip("/") if scheme in _LOCUST_SCHEMES else host.strip())
    if endpoint.user or endpoint.path:
        raise ValueError(f"the load tester takes a host and a port without a user, not {host}")
    return endpoint.host, endpoint.port


class LoadConnection:
    """A connection to a KV/1.0 server, for one greenlet at a time."""

    __slots__ = (
        "_fd",
        "_held",
        "_hold_again",
        "_hub",
        "_lines",
        "_recv",
        "_room",
        "_send",
        "_sock",
        "_switch",
        "_tail",
        "_watcher",
        "address",
        "done_at",
        "expired",
        "received_bytes",
        "sent_at",
        "waiting",
    )

    def __init__(self, address: tuple[str, int], connect_timeout_s: float = 5.0, transport: MakeEnds = plain) -> None:
        """Connect; the time is for TCP, and again for the transport. Raises ConnectionLost."""
        self.address = address
        try:
            made = gevent_socket.create_connection(address, connect_timeout_s)
        except OSError as error:
            raise ConnectionLost(f"cannot connect: {reason(error)}") from None
        plain: Any = monkey.get_original("socket", "socket")
        self._sock: Any = plain(fileno=made.detach())
        self._sock.setblocking(False)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._fd = self._sock.fileno()
        try:
            self._recv, self._send = transport(self._sock, address[0], connect_timeout_s)
        except BaseException as error:
            self._sock.close()
            if isinstance(error, OSError):
                raise TlsRefused(f"TLS failed: {reason(error)}") from None
            raise
        self._room = _SMALL_RECEIVE_BYTES
        self._hub: Any = gevent.get_hub()
        self._switch = self._hub.switch
        self._watcher = self._hub.loop.io(self._fd, _READ)
        self._held = False
        self._hold_again = self.hold
        self._lines: deque[bytes] = deque()
        self._tail = b""
        self.sent_at = self.done_at = 0.0
        self.waiting = 0
        self.received_bytes = 0
        self.expired = False

    def hold(self) -> None:
        """Wake the calling greenlet for every reply until `release`; it must wait for nothing else in between."""
        self._watcher.start(getcurrent().switch)
        self._held = True
        self._hold_again = self.hold

    def attend(self) -> None:
        """Like `hold`, but while no reply is open the greenlet may wait for something else.

        What arrives then, such as the end of the connection, is noticed by the next request.
        """
        self._watcher.start(self._ready, getcurrent().switch)
        self._held = True
        self._hold_again = self.attend

    def _ready(self, switch: Any) -> None:
        if self.waiting:
            switch()
        else:
            self.release()

    def release(self) -> None:
        """Undo `hold`."""
        self._held = False
        if self._watcher is not None:
            self._watcher.stop()

    def exchange(self, line: bytes) -> bytes:
        """Send one request line and return its reply line without the line feed. Raises ConnectionLost.

        sent_at and done_at are the times. The usual case is written out here, which saves six calls, 0.7 us.
        """
        self.waiting += 1
        self.sent_at = clock()
        try:
            sent = self._send(line)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise ConnectionLost(f"connection lost: {error.strerror}") from None
        if sent < len(line):
            self._send_rest(memoryview(line)[sent:])
        if self._held and not self._lines and not self._tail:
            self._switch()
            data = self._receive()
            if data is not None:
                reply, feed, rest = data.partition(b"\n")
                if feed and not rest:
                    self.done_at = clock()
                    self.waiting -= 1
                    return reply
                self._add(data)
        reply = self.reply()
        self.done_at = clock()
        return reply

    def send(self, data: bytes, replies: int) -> None:
        """Send request lines; `waiting` counts the open replies, sent_at is the time. Raises ConnectionLost."""
        self.waiting += replies
        self.sent_at = self.done_at = clock()  # A reply that arrived before its request took no time.
        try:
            sent = self._send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise ConnectionLost(f"connection lost: {error.strerror}") from None
        if sent < len(data):
            self._send_rest(memoryview(data)[sent:])

    def reply(self) -> bytes:
        """Return the next reply line without the line feed; done_at is when its end arrived. Raises ConnectionLost."""
        lines = self._lines
        while not lines:
            self._fill()
        self.waiting -= 1
        return lines.popleft()

    def close(self, quit_first: bool = False) -> None:
        """Close. With quit_first, and if no reply is open, send QUIT first and wait up to 0.5 s. Twice does nothing."""
        sock, self._sock = self._sock, None
        if sock is None:
            return
        watcher, self._watcher = self._watcher, None
        watcher.stop()
        try:
            if quit_first and not self.waiting:
                self._send(_QUIT)
                with gevent.Timeout(0.5, False):
                    self._hub.wait(watcher)
        except OSError:
            pass  # The server has already closed the connection.
        finally:
            watcher.close()
            sock.close()

    def expire(self) -> None:
        """End a wait from another greenlet: the greenlet that waits for a reply gets ConnectionLost."""
        self.expired = True
        if self._sock is not None:
            with suppress(OSError):  # It may be closed already, which also ends the wait.
                self._sock.shutdown(socket.SHUT_RDWR)

    def _wait(self) -> None:
        if self._held:
            self._hub.switch()
            return
        self._watcher.start(getcurrent().switch)
        try:
            self._hub.switch()
        finally:
            if self._watcher is not None:
                self._watcher.stop()

    def _fill(self) -> None:
        data: bytes | None = None
        while data is None:
            self._wait()
            data = self._receive()
        self._add(data)

    def _receive(self) -> bytes | None:
        """Return the bytes that have arrived, None if there are none. Raises ConnectionLost."""
        try:
            data: bytes = self._recv(self._room)
        except BlockingIOError:
            return None
        except OSError as error:
            raise ConnectionLost(f"connection lost: {error.strerror}") from None
        self.received_bytes += len(data)
        if len(data) >= self._room:
            self._room = min(self._room * 8, _RECEIVE_BYTES)
        if not data:
            raise ConnectionLost("no reply in time" if self.expired else "connection closed by the server")
        return data

    def _add(self, data: bytes) -> None:
        self.done_at = clock()
        if self._tail:
            data = self._tail + data
        lines = data.split(b"\n")
        self._tail = lines.pop()
        if len(self._tail) > _MAX_REPLY_BYTES:
            raise ConnectionLost("a reply without an end")
        self._lines.extend(lines)

    def _send_rest(self, rest: memoryview) -> None:
        """Send the rest, and read meanwhile: else a server that waits for us to read would wait for ever."""
        held = self._held
        self.release()
        both = self._hub.loop.io(self._fd, _READ | _WRITE)
        try:
            while rest:
                both.start(getcurrent().switch)
                self._hub.switch()
                both.stop()
                try:
                    rest = rest[self._send(rest) :]
                except BlockingIOError:
                    if data := self._receive():
                        self._add(data)
                except OSError as error:
                    raise ConnectionLost(f"connection lost: {error.strerror}") from None
        finally:
            both.stop()
            both.close()
        if held:
            self._hold_again()


def connected(address: tuple[str, int], timeout_s: float, options: Options) -> LoadConnection:
    """Connect and, if there is a user, log in; timeout_s is for each. Raises ConnectionLost."""
    connection = LoadConnection(address, timeout_s, options.transport)
    login = options.login
    if not login:
        return connection
    try:
        with gevent.Timeout(timeout_s, ConnectionLost("no reply in time")):
            reply = connection.exchange(login)
        if reply != _AUTHENTICATED:
            raise UserRefused(f"the login was refused: {shorten(reply)}")
    except BaseException:  # the user may be stopped meanwhile, too
        connection.close()
        raise
    return connection
