"""A client's conversation on one connection, without a socket: it matches replies with requests.

Sockets, waiting and time are in client_connection.py for threads and in asyncio_connection.py for asyncio.
"""

from collections import deque
from collections.abc import Sequence
from io import BytesIO
from typing import Any, Final, Generic, TypeVar

from kvss_gevent.client.commands import Command, Outcome, text_of
from kvss_gevent.protocol.errors import KVConnectionLost, KVError, KVProtocolError, KVTimeout, status_error
from kvss_gevent.protocol.wire import REPLY, Status, shorten

_FULL: Final = REPLY[Status.SERVER_ERROR] + b"\n"
_REFUSALS: Final = (b"4", b"5")

Sink = TypeVar("Sink")
"""What is kept beside a request to find its caller again: a future for asyncio, nothing for a thread."""


class ClientProtocol(Generic[Sink]):
    """Matches replies with requests, in order.

    max_reply_bytes bounds one reply line. refused becomes True if the server sends 500 before any request: it is full
    and closes (rule 10).
    """

    __slots__ = ("_host", "_max_reply_bytes", "_port", "_queued_bytes", "_tail", "owed", "refused")

    def __init__(self, host: str, port: int, max_reply_bytes: int) -> None:
        self.owed: deque[tuple[Command[Any], int, Sink]] = deque()
        self.refused = False
        self._host = host
        self._port = port
        self._max_reply_bytes = max_reply_bytes
        self._queued_bytes = 0
        self._tail = bytearray()

    def request(self, command: Command[Any], sink: Sink) -> None:
        """Note a request. Its line is sent after the lines of earlier requests."""
        self._queued_bytes += len(command.line)
        self.owed.append((command, self._queued_bytes, sink))

    def receive(self, data: bytes, unsent: int, done: list[tuple[Sink, Outcome]]) -> None:
        """Take received bytes, and append the outcomes of the replies in them to done.

        unsent: bytes of the noted requests that are not sent yet. Raises KVProtocolError for a line that is not a
        reply, and for a reply without a request; done has all outcomes before it. The connection must then be closed.
        """
        if not self.owed:
            self.refused = data == _FULL
            if not self.refused:
                raise self.fault(KVProtocolError, f"it sent {shorten(data)} unasked")
            return
        expected = len(self.owed)
        lines = self._cut(data)
        for line in lines[:expected]:
            command, end, sink = self.owed[0]
            if unsent and end > self._queued_bytes - unsent and not line.startswith(_REFUSALS):
                # A line over the limit may be refused before its end (rule 2). No other reply can come before the
                # request is sent.
                raise self.fault(KVProtocolError, f"it answered {shorten(line[:-1])} before it had the request")
            try:
                outcome = command.read(line)
            except ValueError as error:
                raise self.fault(KVProtocolError, str(error)) from None
            if type(outcome) is Status:
                outcome = self._refusal(outcome, command)
            self.owed.popleft()
            done.append((sink, outcome))
        if not self.owed and (self._tail or len(lines) > expected):
            extra = lines[expected][:-1] if len(lines) > expected else bytes(self._tail)
            raise self.fault(KVProtocolError, f"it sent a reply too many, {shorten(extra)}", command)

    def turn_away(self, commands: Sequence[Command[Any]], outcomes: list[Outcome]) -> None:
        """Give the first command the 500 of a server that is full. Raises KVConnectionLost if there are others."""
        outcomes.append(self._refusal(Status.SERVER_ERROR, commands[0]))
        if len(commands) > 1:
            raise self.fault(KVConnectionLost, "the server closed it", commands[1])

    def lost(self, reason: str = "") -> KVError:
        """Return the error for a connection that ended. reason: what the system said; empty if the server closed it."""
        where = "in the middle of a reply" if self._tail else "before the reply"
        return self.fault(KVConnectionLost, reason or f"the server closed it {where}")

    def late(self, timeout_s: float) -> KVError:
        """Return the error for a reply that was not complete in time."""
        what = "only a part of it came" if self._tail else "none came"
        return self.fault(KVTimeout, f"{what} within {timeout_s:g} s")

    def fault(self, kind: type[KVError], detail: str, command: Command[Any] | None = None) -> KVError:
        """Return an error that names the server and a command; by default the oldest command without a reply."""
        if command is None and self.owed:
            command = self.owed[0][0]
        return kind(self._host, self._port, detail, text_of(command))

    def _refusal(self, status: Status, command: Command[Any]) -> Outcome:
        return status_error(status, self._host, self._port, str(command))

    def _cut(self, data: bytes) -> list[bytes]:
        """Return the reply lines, with their line feeds, that these bytes complete."""
        # readlines looks for line feeds with memchr, split(b"\n") byte by byte: 0.3 us and 4.3 us for one of 16 KiB.
        lines = BytesIO(data).readlines()
        if self._tail:
            self._tail += lines[0]
            lines[0] = b""
            if self._tail.endswith(b"\n"):
                lines[0] = bytes(self._tail)
                self._tail = bytearray()
        if not lines[-1].endswith(b"\n"):
            self._tail += lines.pop()
        longest = max(len(self._tail), max(map(len, lines), default=0) - 1)
        if longest > self._max_reply_bytes:
            raise self.fault(KVProtocolError, f"it sent a reply over the limit of {self._max_reply_bytes} bytes")
        return lines
