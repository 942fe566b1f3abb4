"""Requests at a fixed pace, singly or many at once, to servers that take turns of some tens of milliseconds.

The pace is far below what a server can do, so that what it uses for a request is its own cost and not how fast the
generator was. The generator spins between sends: epoll waits in whole milliseconds, and the pace is finer than that.
"""

import contextlib
import select
import socket
import time
from dataclasses import dataclass
from typing import Final

from kvss_gevent.compare.measuring.contestant import FailedError
from kvss_gevent.measure.load import ClosedLoad, make_packets
from kvss_gevent.measure.prepared_connections import connect_all, resolve, store_keys
from kvss_gevent.measure.process_usage import cpu_ns

REPLY_LIMIT_S: Final = 2.0
"""For the replies to what a slice has sent."""

PRIMING_BYTES: Final = 600_000
PRIMING_CLIENTS: Final = 4


@dataclass(frozen=True, slots=True)
class Pace:
    """per_s requests a second, `at_once` of them sent together on as many connections."""

    per_s: int
    at_once: int

    def __str__(self) -> str:
        return f"{self.per_s:,}/s, " + (f"{self.at_once} at once" if self.at_once > 1 else "one at a time")


@dataclass(frozen=True, slots=True)
class Slice:
    """What one turn of a server came to.

    late: requests that were due while their connection still waited, and were not sent. cpu_ns: of the server.
    """

    requests: int
    late: int
    cpu_ns: int
    wall_ns: int


class PacedClients:
    """The connections of one server, to be closed. stored: its keys are stored first, by a client that leaves."""

    def __init__(self, port: int, pid: int, connections: int, *, stored: bool = True) -> None:
        load = ClosedLoad(connections=connections)
        address, family = resolve("127.0.0.1", port)
        if stored:
            store_keys(address, family, load)
        self._pid = pid
        self._socks = connect_all(address, family, connections)
        if len(self._socks) < connections:
            raise FailedError("it did not accept every connection")
        self._packets = [packet for packet, _ in make_packets(load)]
        self._poll = select.epoll()
        self._by_number: dict[int, socket.socket] = {}
        self._next = 0
        for sock in self._socks:
            sock.sendall(self._packets[0])
            sock.settimeout(REPLY_LIMIT_S)
            try:
                answered = sock.recv(4096)
            except TimeoutError:
                answered = b""
            if not answered:
                raise FailedError("it did not answer on every connection")
            sock.setblocking(False)
            self._by_number[sock.fileno()] = sock
            self._poll.register(sock, select.EPOLLIN)

    def __enter__(self) -> "PacedClients":
        return self

    def __exit__(self, *_: object) -> None:
        self._poll.close()
        for sock in self._socks:
            sock.close()

    def slice(self, pace: Pace, seconds: float) -> Slice:
        """Send at a pace for so long, wait for every reply, and return what the server used meanwhile."""
        clock, poll, by_number = time.perf_counter_ns, self._poll.poll, self._by_number
        packets, socks = self._packets, self._socks
        step_ns = pace.at_once * 1_000_000_000 // pace.per_s
        busy: set[int] = set()
        sent = late = 0
        before_ns = cpu_ns(self._pid)
        begun_ns = due_ns = clock()
        end_ns = begun_ns + int(seconds * 1e9)
        limit_ns = end_ns + int(REPLY_LIMIT_S * 1e9)
        while due_ns < end_ns or busy:
            now_ns = clock()
            if now_ns > limit_ns:
                raise FailedError("it left requests unanswered")
            if now_ns >= due_ns and due_ns < end_ns:
                # Where others had this processor, what was due meanwhile is left out: it would come as one burst.
                due_ns = max(due_ns + step_ns, now_ns - step_ns)
                for _ in range(pace.at_once):
                    self._next += 1
                    sock = socks[self._next % len(socks)]
                    if sock.fileno() in busy:
                        late += 1
                    else:
                        sock.send(packets[self._next % len(packets)])
                        busy.add(sock.fileno())
                        sent += 1
            for number, _ in poll(0):
                if by_number[number].recv(4096).endswith(b"\n"):
                    busy.discard(number)
        wall_ns = clock() - begun_ns
        return Slice(sent, late, cpu_ns(self._pid) - before_ns, wall_ns)


def prime(port: int) -> None:
    """Have some clients come, store and read a large value, and go, as has happened to any server that is not new.

    glibc maps and unmaps large receive buffers at every request until a large block has been freed once; it then keeps
    them. Which state a new server is in depends on its imports, and would be measured instead of its model.
    """
    for _ in range(PRIMING_CLIENTS):
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port), 5) as sock,
            sock.makefile("rb") as replies,
        ):
            for line in (b"PUT prime " + b"x" * PRIMING_BYTES, b"GET prime", b"DEL prime", b"QUIT"):
                sock.sendall(b"KV/1.0 " + line + b"\n")
                replies.readline()
