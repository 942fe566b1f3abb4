"""A known server as a process: `python -m kvss_gevent.loadtest.truth.server NAME` prints its port, and then its log.

It ends when its standard input ends. The log is JSON with a row for each data request and each STATS: [connection,
received, leaving or null, replied or null, fault, verb]. Times are seconds of the machine's monotonic clock, which the
load tester uses too. received: when the kernel received the request, by the kernel's stamp, so that the log contains
the server's waits for a core. leaving, replied: just before and just after the last bytes of the reply are given to the
kernel; a server that loses its core in between may have sent them at either time.
"""

import asyncio
import json
import socket
import struct
import sys
import time
from collections import deque
from typing import Any, Self

from kvss_gevent.loadtest.truth.behaviours import BEHAVIOURS, BYTES, CLOSE, DRIP, NEVER, RESET, ReceivedRequest, State

_PIECE_S = 0.002
_RESET_AT_CLOSE = struct.pack("ii", 1, 0)
_STAMP = struct.Struct("qq")
_SO_TIMESTAMPNS = 35
"""Linux's number of the socket option that stamps received packets; Python has no name for it."""


class StampedSocket(socket.socket):
    """A socket that knows when the kernel received what `recv` returns; accepted sockets inherit the option."""

    received = 0.0
    """When the kernel received the last data read from any of these sockets, in seconds of the monotonic clock."""

    @classmethod
    def bound(cls) -> Self:
        """Return a socket on a free port of loopback, to listen on."""
        sock = cls()
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        sock.bind(("127.0.0.1", 0))
        return sock

    def accept(self) -> tuple[Self, Any]:
        """Accept a connection; its socket is of this class too."""
        plain, address = super().accept()
        return type(self)(fileno=plain.detach()), address

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """Read, and note in `received` when the data arrived."""
        data, notes, _, _ = self.recvmsg(size, socket.CMSG_SPACE(_STAMP.size), flags)
        now = time.monotonic()
        StampedSocket.received = now
        for level, kind, stamp in notes:
            if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
                seconds, nanoseconds = _STAMP.unpack(stamp)
                StampedSocket.received = now - max(time.time() - seconds - nanoseconds / 1e9, 0.0)
        return data


class Log:
    """The log of a server, with its behaviour and state."""

    def __init__(self, name: str) -> None:
        self.behaviour = BEHAVIOURS[name]
        self.state = State()
        self.rows: list[list[Any]] = []
        self.connections = 0


class TruthConversation(asyncio.Protocol):
    """One connection: replies keep the order of requests."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._tail = b""
        self._free_at = 0.0
        self._nth = 0
        self._ended = False
        self._pieces: deque[bytes] = deque()
        """The pieces of the present reply that are not sent yet."""
        self._pending: deque[tuple[bytes, str, list[Any]]] = deque()

    def connection_made(self, transport: Any) -> None:
        """Note a new connection."""
        self._transport: asyncio.Transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._loop = asyncio.get_running_loop()
        self._number = self._log.connections
        self._log.connections += 1

    def data_received(self, data: bytes) -> None:
        """Take every whole line."""
        now = StampedSocket.received
        *lines, self._tail = (self._tail + data).split(b"\n")
        for line in lines:
            self._take(line.split(b" ", 3), now)

    def _take(self, words: list[bytes], now: float) -> None:
        verb = words[1]
        if verb == b"STATS":
            self._transport.write(b"200 OK uptime: 0:00:01\n")
            self._log.rows.append([self._number, now, now, now, "", "STATS"])
        elif verb == b"QUIT":
            self._transport.write(b"200 OK bye\n")
            self._transport.close()
        elif verb == b"PUT" and b".L " in words[3]:
            self._log.state.data[words[2]] = words[3]  # Stored before the run, so it is not in the log.
            self._transport.write(b"201 CREATED\n")
        elif not self._ended:
            self._answer(verb, words, now)

    def _answer(self, verb: bytes, words: list[bytes], now: float) -> None:
        log = self._log
        log.state.begun = log.state.begun or now
        self._nth += 1
        value = words[3] if len(words) > 3 else b""
        begun = max(now, self._free_at)
        answer = log.behaviour(log.state, ReceivedRequest(verb, words[2], value, now, begun, len(log.rows), self._nth))
        row = [self._number, now, None, None, answer.fault, verb.decode()]
        log.rows.append(row)
        self._free_at = max(answer.at, self._free_at)
        if answer.how == NEVER:
            return
        self._ended = answer.how in (RESET, CLOSE)
        # asyncio may run calls for the same time in any order; this queue keeps it.
        self._pending.append((answer.reply, answer.how, row))
        self._loop.call_at(self._free_at, self._send_next)
        if answer.how in (DRIP, BYTES):
            self._free_at += 3 * _PIECE_S if answer.how == DRIP else 0.0

    def _send_next(self) -> None:
        if self._pieces:  # the loop is late, and the reply before is not sent yet
            self._loop.call_later(_PIECE_S, self._send_next)
            return
        self._send(*self._pending.popleft())

    def _send(self, reply: bytes, how: str, row: list[Any]) -> None:
        line = reply + b"\n"
        if how == RESET:
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
            self._transport.abort()
            return
        if how == DRIP:
            third = max(len(line) // 3, 1)
            self._pieces += (line[:third], line[third : 2 * third], line[2 * third :])
            self._send_piece(row)
            return
        for piece in [line[i : i + 1] for i in range(len(line))] if how == BYTES else [line]:
            self._write(piece, row)
        if how == CLOSE:
            self._transport.close()

    def _send_piece(self, row: list[Any]) -> None:
        self._write(self._pieces.popleft(), row)
        if self._pieces:
            self._loop.call_later(_PIECE_S, self._send_piece, row)

    def _write(self, piece: bytes, row: list[Any]) -> None:
        row[2] = self._loop.time()
        if not self._transport.is_closing():  # else asyncio prints a warning for each piece
            self._transport.write(piece)
        row[3] = self._loop.time()


async def serve(name: str) -> None:
    """Serve on a free port of loopback until standard input ends."""
    log = Log(name)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: TruthConversation(log), sock=StampedSocket.bound())
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()
    json.dump(log.rows, sys.stdout)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
