"""One connection of a case, as seen by its client: packets out, lines in, each wait bounded by the case's deadline."""

import socket
import struct
import sys
import time
from typing import Any, Final

Address = tuple[Any, ...]
"""What socket.connect takes: host and port, with two more numbers for IPv6."""

MAX_REPLY_BYTES: Final = 2 << 20
"""No case asks for a longer reply; a server that sends more without a line feed is not heard to the end."""

_RESET_AT_CLOSE: Final = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


class NoReply(Exception):
    """What was waited for does not come; the message says why, rest is what came of it."""

    def __init__(self, why: str, rest: bytes = b"", *, waited: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.rest = rest
        self.waited = waited


class Gone(Exception):
    """No connection can be made; the message says why."""


class Deadline:
    """The moment at which a case gives up."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._end = time.monotonic() + timeout_s

    def left_s(self) -> float:
        """Return the seconds left, never less than 1 ms: a socket takes zero for non-blocking."""
        return max(0.001, self._end - time.monotonic())

    def passed(self) -> bool:
        """Tell whether the moment has passed."""
        return time.monotonic() >= self._end

    def pause(self, seconds: float) -> None:
        """Sleep, and put the deadline off by as much."""
        self._end += seconds
        time.sleep(seconds)


class Peer:
    """One connection to the server under test. Raises Gone where none can be made."""

    def __init__(self, address: Address, deadline: Deadline) -> None:
        self.deadline = deadline
        self._buffer = bytearray()
        self._broken: str | None = None
        self.between_lines = True
        self.heard_bytes = 0
        self.half_closed = False
        self.left = False
        family = socket.AF_INET6 if len(address) == 4 else socket.AF_INET
        self._sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            self._sock.settimeout(deadline.left_s())
            self._sock.connect(address)
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            self._sock.close()
            raise Gone(describe(error)) from None

    def send(self, data: bytes) -> None:
        """Send one packet. Raises NoReply where the server does not take it; a broken connection shows when reading."""
        self.between_lines = data.endswith(b"\n")
        try:
            self._sock.settimeout(self.deadline.left_s())
            self._sock.sendall(data)
        except TimeoutError:
            raise NoReply(f"the server stopped reading for {self.deadline.timeout_s:g} s", waited=True) from None
        except OSError as error:
            self._broken = describe(error)

    def line(self) -> bytes:
        """Return the next line without its line feed. Raises NoReply."""
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > MAX_REPLY_BYTES:
                raise NoReply("a reply without end", bytes(self._buffer))
            if not self._receive():
                raise NoReply(self._broken or "the server closed the connection", bytes(self._buffer))
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def rest(self) -> bytes:
        """Wait until the server closes or sends anything; return what it sent. Raises NoReply where it does neither."""
        while not self._buffer and self._receive():
            pass
        return bytes(self._buffer)

    def pending(self) -> bytes:
        """Return what has been received and not been read as a line."""
        return bytes(self._buffer)

    def half_close(self) -> None:
        """Close the sending side."""
        self.half_closed = True
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            self._broken = describe(error)

    def reset(self) -> None:
        """Break the connection off."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
        self.close()

    def close(self) -> None:
        """Close the connection; a second call does nothing."""
        self.left = True
        self._sock.close()

    def _receive(self) -> bool:
        """Receive once; False at the end of the connection, however it ended."""
        if self.deadline.passed():
            raise self._silence()
        try:
            self._sock.settimeout(self.deadline.left_s())
            data = self._sock.recv(1 << 16)
        except TimeoutError:
            raise self._silence() from None
        except OSError as error:
            self._broken = describe(error)
            return False
        self._buffer += data
        self.heard_bytes += len(data)
        return bool(data)

    def _silence(self) -> NoReply:
        within = f"within {self.deadline.timeout_s:g} s"
        why = f"no line feed {within}" if self._buffer else f"nothing {within}"
        return NoReply(why, bytes(self._buffer), waited=True)


def describe(error: OSError) -> str:
    """Return what went wrong with a connection, in words."""
    if isinstance(error, TimeoutError):
        return "no connection in time"
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return "the server reset the connection"
    return (error.strerror or str(error)).lower()
