"""Sends requests at a fixed pace, one or many at once, to one server after the other, each for about 40 ms.

The pace is far below a server's maximum, so that its CPU time for a request does not depend on the generator's speed.
The generator polls between sends, because epoll waits in whole milliseconds, and the pace is finer.
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
"""How long to wait for the replies of a slice."""

PRIMING_BYTES: Final = 600_000
PRIMING_CLIENTS: Final = 4


@dataclass(frozen=True, slots=True)
class Pace:
    """per_s requests a second; at_once of them are sent together, each on its own connection."""

    per_s: int
    at_once: int

    def __str__(self) -> str:
        return f"{self.per_s:,}/s, " + (f"{self.at_once} at once" if self.at_once > 1 else "one at a time")


@dataclass(frozen=True, slots=True)
class Slice:
    """The result of one turn of a server.

    late: due requests that were not sent, because their connection still waited for a reply. cpu_ns: of the server.
    """

    requests: int
    late: int
    cpu_ns: int
    wall_ns: int


class PacedClients:
    """The connections to one server; use it in a `with`. stored: another client stores the keys first."""

    def __init__(self, port: int, pid: int, connections: int, *, stored: bool) -> None:
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
        """Send at a pace for some seconds, wait for all replies, and return what the server used."""
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
                # If other processes had this processor, the requests due meanwhile are left out: they would be a burst.
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
    """Let some clients connect, store and read a large value, and leave, so that the server is no longer new.

    glibc maps and unmaps large receive buffers at every request, until a large block has been freed once; then it keeps
    them. The state of a new server depends on its imports, and this would be measured instead of the model.
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
