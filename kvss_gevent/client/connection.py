"""One TCP connection of a client: lines out, reply lines in, never out of step. What the lines mean is for client.py.

The module socket is used when it is called, never copied from: where gevent has patched it, a wait is a greenlet's.
"""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import accumulate
from typing import Final

from kvss_gevent.protocol.errors import KVConnectError, KVConnectionLost, KVError, KVProtocolError, KVTimeout
from kvss_gevent.protocol.wire import REPLY, Status, shorten

_RECV_BYTES: Final = 1 << 16
_SEND_BYTES: Final = 1 << 18
_FULL: Final = REPLY[Status.SERVER_ERROR] + b"\n"
_REFUSALS: Final = (b"4", b"5")


class Connection:
    """A connection that opens when it is needed and closes at the first doubt.

    connect_timeout_s holds for each address of the host. timeout_s is how long a whole reply may take, counted from the
    request or from the reply before it. max_reply_bytes bounds one reply line. opened counts the connections made.
    Threads and greenlets may share it: they take turns, and wait for theirs no longer than timeout_s.
    """

    def __init__(
        self, host: str, port: int, *, connect_timeout_s: float, timeout_s: float, max_reply_bytes: int
    ) -> None:
        self.opened = 0
        self._host = host
        self._port = port
        self._connect_timeout_s = connect_timeout_s
        self._timeout_s = timeout_s
        self._max_reply_bytes = max_reply_bytes
        self._lock = threading.Lock()
        self._sock: socket.socket | None = None
        self._tail = bytearray()
        self._writable = True

    def open(self) -> None:
        """Connect, unless it is connected already. Raises KVConnectError."""
        with self._turn():
            self._open()

    def close(self) -> None:
        """Close the socket; the next exchange opens another."""
        with self._turn():
            self._close()

    def exchange(self, requests: Sequence[bytes], take: Callable[[bytes], None]) -> None:
        """Send request lines as one stream and hand each reply line, without its line feed, to take, in order.

        Sending and receiving overlap, so that no pipeline is too long for the socket buffers. After any exception,
        KVError or one from outside such as gevent.Timeout or a Ctrl-C, the connection is closed: a reply that comes
        late has nowhere to go.
        """
        with self._turn():
            try:
                refusal = self._refusal_while_idle()
                if refusal:
                    take(refusal)
                    self._close()
                    if len(requests) > 1:
                        raise self.fault(KVConnectionLost, "the server closed it")
                    return
                self._open()
                self._run(requests, take)
            except BaseException:
                self._close()
                raise

    def fault(self, kind: type[KVError], detail: str) -> KVError:
        """Return an error that names this connection's server."""
        return kind(self._host, self._port, detail)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._lock.acquire(timeout=self._timeout_s):
            raise self.fault(KVTimeout, f"other calls kept the connection for {self._timeout_s:g} s")
        try:
            yield
        finally:
            self._lock.release()

    def _open(self) -> None:
        if self._sock is not None:
            return
        try:
            sock = socket.create_connection((self._host, self._port), self._connect_timeout_s)
        except TimeoutError as error:
            raise self.fault(KVConnectError, f"no answer within {self._connect_timeout_s:g} s") from error
        except (OSError, ValueError) as error:  # ValueError: a host that cannot be looked up, such as a label too long
            raise self.fault(KVConnectError, _reason(error)) from error
        self._sock = sock
        with suppress(OSError):  # a connection that is reset already: the exchange finds out
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.opened += 1

    def _close(self) -> None:
        sock, self._sock = self._sock, None
        self._tail = bytearray()
        self._writable = True
        if sock is not None:
            sock.close()

    def _run(self, requests: Sequence[bytes], take: Callable[[bytes], None]) -> None:
        data = memoryview(b"".join(requests))
        ends = list(accumulate(map(len, requests)))
        sent = answered = 0
        deadline = time.monotonic() + self._timeout_s
        while answered < len(ends):
            if sent < len(data) and self._writable:
                # While a reply is owed the server may be waiting for us to read: then a full send buffer is no reason
                # to wait for room, the reply is. Where none is owed it can only be reading.
                owed = ends[answered] <= sent
                step = self._send(data[sent : sent + _SEND_BYTES], None if owed else deadline)
                sent += step
                if step:
                    continue
            for line in self._receive(deadline):
                if answered == len(ends):
                    raise self.fault(KVProtocolError, f"it sent a reply too many, {shorten(line)}")
                if sent < ends[answered] and not line.startswith(_REFUSALS):
                    # A line over the limit may be refused before its end (rule 2); nothing else is known by then.
                    raise self.fault(KVProtocolError, f"it answered {shorten(line)} before it had the request")
                take(line)
                answered += 1
                deadline = time.monotonic() + self._timeout_s
        if self._tail:
            raise self.fault(KVProtocolError, f"it sent a reply too many, {shorten(bytes(self._tail))}")
        if sent < len(data):
            self._close()

    def _send(self, chunk: memoryview, deadline: float | None) -> int:
        """Send some of the chunk and return how much; without a deadline, 0 where that would mean to wait."""
        assert self._sock is not None
        self._sock.settimeout(0.0 if deadline is None else self._remaining_s(deadline))
        try:
            return self._sock.send(chunk)
        except BlockingIOError:
            return 0
        except TimeoutError as error:
            raise self._late() from error
        except OSError:
            # The server has gone, perhaps with a word of farewell: 500 where it is full, 400 for a line over its limit.
            self._writable = False
            return 0

    def _receive(self, deadline: float) -> list[bytes]:
        """Wait for bytes and return the reply lines, none or more, that are whole with them."""
        assert self._sock is not None
        self._sock.settimeout(self._remaining_s(deadline))
        try:
            data = self._sock.recv(_RECV_BYTES)
        except TimeoutError as error:
            raise self._late() from error
        except OSError as error:
            raise self.fault(KVConnectionLost, _reason(error)) from error
        if not data:
            where = "in the middle of a reply" if self._tail else "before the reply"
            raise self.fault(KVConnectionLost, f"the server closed it {where}")
        first, *others = data.split(b"\n")  # each byte is looked at once, however long the reply
        self._tail += first
        lines = []
        if others:
            lines = [bytes(self._tail), *others[:-1]]
            self._tail = bytearray(others[-1])
        if max(len(self._tail), *map(len, lines), 0) > self._max_reply_bytes:
            raise self.fault(KVProtocolError, f"it sent a reply over the limit of {self._max_reply_bytes} bytes")
        return lines

    def _refusal_while_idle(self) -> bytes:
        """Look, without waiting, at what came since the last reply; return a 500 that the server closed with.

        A connection that the server has closed is forgotten: nothing was sent on it, so that a new one is no retry.
        Costs one system call a request, against a reply that would be taken for that of the next request.
        """
        if self._sock is None:
            return b""
        self._sock.settimeout(0.0)
        try:
            data = self._sock.recv(_RECV_BYTES)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        if data and data != _FULL:
            raise self.fault(KVProtocolError, f"it sent {shorten(data)} unasked")
        if not data:
            self._close()
        return data[:-1]

    def _remaining_s(self, deadline: float) -> float:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise self._late()
        return remaining

    def _late(self) -> KVError:
        what = "only a part of it came" if self._tail else "none came"
        return self.fault(KVTimeout, f"{what} within {self._timeout_s:g} s")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
