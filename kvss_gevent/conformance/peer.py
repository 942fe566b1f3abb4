"""One connection of a case, from the client's side: it sends packets and reads lines, within the case's deadline."""

import re
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from kvss_gevent.conformance.deadline import Deadline
from kvss_gevent.conformance.dialect import PLAIN, TWICE, Dialect
from kvss_gevent.conformance.process.kernel import has_closed, unread_bytes
from kvss_gevent.protocol.wire import REPLY, Status

Address = tuple[Any, ...]
"""What socket.connect takes: host and port, with two more numbers for IPv6."""

PACKET_GAP_S: Final = 0.02
BYTE_GAP_S: Final = 0.002
"""Waits between packets, if the kernel cannot say whether the server has read the first one."""
_READ_WITHIN_S: Final = 0.25
_LOOK_S: Final = 0.0005
_QUIET_S: Final = 0.04
"""A reply without an end mark is complete after so much silence."""
_WHOLE: Final = frozenset(REPLY.values()) - {REPLY[Status.OK]}
_CODE: Final = re.compile(rb"[245]\d\d|$")
_NEXT_REPLY: Final = re.compile(rb"(?<=.)(?=(?:200 OK|201|204|400|404|426|500)(?:[^0-9A-Za-z]|$))", re.DOTALL)

MAX_REPLY_BYTES: Final = 2 << 20
"""No case requests a longer reply. If a server sends more without a line feed, the rest is not read."""

_RESET_AT_CLOSE: Final = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


Note = Callable[[bool, bytes, str], None]
"""Called with: whether the checker did it, the bytes of a packet, and how the connection ended ("" if it did not)."""


def _note_nothing(_sent: bool, _data: bytes, _end: str) -> None:
    pass


class NoReply(Exception):
    """An expected reply did not arrive. The message says why; rest is the part that arrived."""

    def __init__(self, why: str, rest: bytes = b"", *, waited: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.rest = rest
        self.waited = waited


class Gone(Exception):
    """No connection can be made; the message says why. waited: it took too long, so the server may still be alive."""

    def __init__(self, why: str, *, waited: bool) -> None:
        super().__init__(why)
        self.waited = waited


class Peer:
    """One connection to the server under test. Raises Gone if it cannot be made."""

    def __init__(
        self, address: Address, deadline: Deadline, dialect: Dialect = PLAIN, note: Note = _note_nothing
    ) -> None:
        self.deadline = deadline
        self.note = note
        self.dialect = dialect
        self._greeting_lines = dialect.greeting_lines
        self._waiting_since = time.monotonic()
        self._buffer = bytearray()
        self._broken: str | None = None
        self.between_lines = True
        self._reads_late = False
        self.heard_bytes = 0
        self.half_closed = False
        self.left = False
        family = socket.AF_INET6 if len(address) == 4 else socket.AF_INET
        self._sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            self._sock.settimeout(deadline.left_s())
            self._sock.connect(address)
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if dialect.secure is not None:
                self._sock = dialect.secure(self._sock)
        except (OSError, Gone) as error:
            self._sock.close()
            if isinstance(error, Gone):
                raise
            raise Gone(describe(error), waited=isinstance(error, TimeoutError)) from None

    def send(self, data: bytes) -> None:
        """Send one packet. Raises NoReply if the server does not read it. Reading reports a broken connection."""
        self.between_lines = data.endswith(b"\n")
        self.note(True, data, "")
        try:
            self._sock.settimeout(self.deadline.left_s())
            self._sock.sendall(data)
        except TimeoutError:
            raise NoReply(f"the server stopped reading for {self.deadline.timeout_s:g} s", waited=True) from None
        except OSError as error:
            self._broken = describe(error)

    def await_read(self, gap_s: float) -> None:
        """Wait until the server has read what was sent, or for gap_s if that cannot be known."""
        started = time.monotonic()
        unread: int | None = None
        try:
            local, remote = self._sock.getsockname(), self._sock.getpeername()
        except OSError:
            return
        if local[0] != remote[0] or self._reads_late:
            self.deadline.pause(gap_s)
            return
        while time.monotonic() - started < _READ_WITHIN_S:
            unread = unread_bytes(local, remote)
            if not unread:
                break
            time.sleep(_LOOK_S)
        self._reads_late = bool(unread)
        self.deadline.extend(time.monotonic() - started)
        if unread is None:
            self.deadline.pause(gap_s)

    def line(self, expected: bytes = b"") -> bytes:
        """Return the next reply line without its end mark. Raises NoReply.

        expected: a reply without an end mark is complete as soon as it equals this, or else after some silence.
        """
        self._waiting_since = time.monotonic()
        while self._greeting_lines:
            self._cut(b"\n")
            self._greeting_lines -= 1
        end = self.dialect.end
        line = self._cut(end[-1:]) if end else self._cut_without_end(expected)
        if end == TWICE:
            self._cut(b"\n")
        return line.removesuffix(end[:-1]).lstrip(b"\0").removeprefix(self.dialect.prompt)

    def _cut(self, end: bytes) -> bytes:
        searched = 0
        while (place := self._buffer.find(end, searched)) < 0 or (end == b"\0" and not place):
            if not place:  # NUL bytes that pad the reply before
                del self._buffer[:1]
                continue
            searched = len(self._buffer)
            if searched > MAX_REPLY_BYTES:
                raise NoReply("a reply that does not end", bytes(self._buffer))
            if not self._receive():
                raise NoReply(self._broken or "the server closed the connection", self.pending())
        line = bytes(self._buffer[:place])
        del self._buffer[: place + 1]
        return line

    def _cut_without_end(self, expected: bytes) -> bytes:
        while not self._buffer:
            if not self._receive():
                raise NoReply(self._broken or "the server closed the connection")

        def whole(buffer: bytearray) -> bool:
            return bytes(buffer[:20]) in _WHOLE or (bool(expected) and buffer.startswith(expected))

        self._hear(_QUIET_S, whole)
        following = _NEXT_REPLY.search(self._buffer)
        line = bytes(self._buffer[: following.start() if following else None])
        if expected and self._buffer.startswith(expected) and _CODE.match(self._buffer, len(expected)):
            line = expected
        del self._buffer[: len(line)]
        return line

    def listen(self, quiet_s: float) -> bytes:
        """Return everything that arrives until there is silence for quiet_s or the connection ends. Never raises.

        A server that goes on and on is heard until the deadline.
        """
        self._hear(quiet_s, lambda _: False)
        heard = bytes(self._buffer)
        self._buffer.clear()
        return heard

    def _hear(self, quiet_s: float, whole: Callable[[bytearray], bool]) -> None:
        """Receive until what came is whole, there is silence for quiet_s, or the deadline has passed."""
        deadline = self.deadline
        try:
            while len(self._buffer) <= MAX_REPLY_BYTES and not whole(self._buffer):
                self.deadline = Deadline(quiet_s)
                if not self._receive() or deadline.passed():
                    break
        except NoReply:
            pass  # silence
        finally:
            self.deadline = deadline

    def rest(self) -> bytes:
        """Wait until the server closes or sends anything; return what it sent. Raises NoReply if it does neither."""
        self._waiting_since = time.monotonic()
        while not self.pending() and self._receive():
            pass
        return self.pending()

    def pending(self) -> bytes:
        """Return the received bytes that were not read as a line, without greeting, padding and prompt."""
        rest = bytes(self._buffer)
        if self._greeting_lines:
            rest = b"".join(rest.split(b"\n", self._greeting_lines)[self._greeting_lines :])
        return rest.strip(b"\0").removeprefix(self.dialect.prompt)

    def half_close(self) -> None:
        """Close the sending side. With TLS this is the end of TCP alone: a farewell of TLS may close both sides."""
        self.half_closed = True
        self.note(True, b"", "sends no more")
        try:
            socket.socket.shutdown(self._sock, socket.SHUT_WR)  # that of an SSLSocket ends the decryption, too
        except OSError as error:
            self._broken = describe(error)

    def finish(self, within_s: float) -> None:
        """Close the sending side, wait until the server closes, and close. The deadline moves by the same time."""
        self.half_close()
        started, case_deadline = time.monotonic(), self.deadline
        self.deadline = Deadline(within_s)
        try:
            while self._receive():
                self._buffer.clear()
        except NoReply:
            pass  # the server does not close
        self.deadline = case_deadline
        self.deadline.extend(time.monotonic() - started)
        self.close()

    def reset(self) -> None:
        """Reset the connection."""
        self.note(True, b"", "resets")
        self.left = True
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
        self.close()

    def close(self) -> None:
        """Close the connection; a second call does nothing."""
        if not self.left:
            self.note(True, b"", "closes")
        self.left = True
        if self._ended_by_server():
            # Without a reset its port is in TIME_WAIT for a minute, and a server without SO_REUSEADDR cannot restart.
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
        self._sock.close()

    def _ended_by_server(self) -> bool:
        try:
            self._sock.setblocking(False)
            ended = not self.half_closed and not socket.socket.recv(self._sock, 1, socket.MSG_PEEK)
            return ended and has_closed(self._sock.getsockname(), self._sock.getpeername())
        except OSError:
            return False

    def _receive(self) -> bool:
        """Receive once; return False if the connection has ended, for any reason."""
        if self.deadline.passed():
            raise self._silence()
        try:
            self._sock.settimeout(self.deadline.left_s())
            self._acknowledge()
            data = self._sock.recv(1 << 16)
        except TimeoutError:
            raise self._silence() from None
        except OSError as error:
            self._broken = describe(error)
            self.note(False, b"", "resets")
            return False
        self.note(False, data, "" if data else "closes")
        self._buffer += data
        self.heard_bytes += len(data)
        return bool(data)

    def _acknowledge(self) -> None:
        """Acknowledge at once what came and what comes: a correct server may wait for this (Nagle's algorithm).

        It does so in the middle of a reply in two pieces, and between the tickets of TLS and the first reply.
        """
        if hasattr(socket, "TCP_QUICKACK"):  # only Linux has it
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def _silence(self) -> NoReply:
        waited_s = time.monotonic() - self._waiting_since
        within = f"within {self.deadline.timeout_s:g} s"
        if self.deadline.timeout_s - waited_s > max(0.2 * self.deadline.timeout_s, 0.05):  # less may be scheduling
            within = f"in the {waited_s:.1f} s that were left of the case's {self.deadline.timeout_s:g} s"
        why = f"no line feed {within}" if self._buffer else f"nothing {within}"
        return NoReply(why, self.pending(), waited=True)


def describe(error: OSError) -> str:
    """Return what went wrong with a connection, in words."""
    if isinstance(error, TimeoutError):
        return "no connection in time"
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return "the server reset the connection"
    return (error.strerror or str(error)).lower()
