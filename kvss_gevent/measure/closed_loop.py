"""A closed-loop load generator for saturation: many connections, a fixed pipeline depth, one process, one epoll loop.

Each connection sends a packet of requests, waits for all replies, and sends the next. So a server that stalls gets
fewer requests meanwhile, and the stall counts once for each connection. This does not show how long clients would have
waited at a given rate. The load tester in loadtest/ sends at a rate. The loop uses epoll directly: the selectors module
would cost as much for each reply as all the rest.
"""

import itertools
import select
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator

from kvss_gevent.measure.load import PACKETS, ClosedLoad, LoadOutcome, Packet, Times, jain, make_packets
from kvss_gevent.measure.prepared_connections import SMALL_RECV_BYTES, answered_once, connect_all, resolve, store_keys
from kvss_gevent.protocol.wire import Status

RECV_BYTES = 1 << 18
STRIDE = 37
"""Neighbouring connections begin this many packets apart, so that even a short run sends most of the packets."""

POLL_S = 0.05
"""How often the loop looks at the clock while no replies come."""

SIGNS = {
    "kv": {
        sign: f"{status:d} {status.name}"
        for sign, status in (
            (b"V", Status.SERVER_ERROR),
            (b"B", Status.BAD_REQUEST),
            (b"G", Status.UPGRADE_REQUIRED),
            (b"F", Status.NOT_FOUND),
        )
    },
    "resp": {b"-": "an error"},
}
"""For each error reply a byte that no other reply has. Counting it works across packet borders."""

ERROR_BYTE = {"kv": b"_", "resp": b"-"}
"""A byte that every error reply has, and no other reply."""


def run(host: str, port: int, load: ClosedLoad, at_edge: Callable[[], None] = lambda: None) -> LoadOutcome:
    """Load the server and return the result. It takes at most 3 LIMIT_S and drain_s longer than the load's own times.

    at_edge is called when the time that counts begins and when it ends: there the caller reads what the server has
    used. Raises Unusable.
    """
    address, family = resolve(host, port)
    store_keys(address, family, load)
    connected = connect_all(address, family, load.connections)
    try:
        return _Run(load).measure(connected, at_edge)
    finally:
        for sock in connected:
            sock.close()


class _Client:
    """One connection: line feeds still to come, when its packet was sent, and what the kernel has not taken."""

    __slots__ = ("answered", "begun_ns", "left", "packets", "recv", "recv_bytes", "send", "sock", "unsent")

    def __init__(self, sock: socket.socket, packets: Iterator[Packet]) -> None:
        self.sock = sock
        self.recv, self.send = sock.recv, sock.send
        self.packets = packets
        self.recv_bytes = SMALL_RECV_BYTES
        self.unsent = memoryview(b"")
        self.begun_ns = self.left = self.answered = 0


class _Run:
    """One run. Clients that wait for replies are registered with epoll; the others are done."""

    def __init__(self, load: ClosedLoad) -> None:
        self.load = load
        self.times = Times()
        self.refused: Counter[str] = Counter()
        self.signs, self.error_byte = SIGNS[load.protocol], ERROR_BYTE[load.protocol]
        self.lost = 0
        self.heard: set[_Client] = set()
        self.poll = select.epoll()
        self.waiting: dict[int, _Client] = {}

    def measure(self, connected: list[socket.socket], at_edge: Callable[[], None]) -> LoadOutcome:
        load = self.load
        self.lost += load.connections - len(connected)
        packets = make_packets(load)
        clients = []
        for number, sock in enumerate(answered_once(connected, load.protocol, self._count_refused)):
            sock.setblocking(False)
            clients.append(_Client(sock, itertools.islice(itertools.cycle(packets), number * STRIDE % PACKETS, None)))
        for client in clients:
            self._begin(client)
        self._answer(time.perf_counter_ns() + int(load.warmup_s * 1e9), counts=False)
        at_edge()
        cpu_s, begun_ns = time.process_time(), time.perf_counter_ns()
        until_ns = begun_ns + int(load.seconds * 1e9)
        self._answer(until_ns, counts=True)
        seconds = (time.perf_counter_ns() - begun_ns) / 1e9
        cpu_s = time.process_time() - cpu_s
        at_edge()
        self._drain(until_ns + int(load.drain_s * 1e9))
        self.poll.close()
        requests = self.times.count * load.depth
        served = [client.answered for client in clients if client.answered]
        return LoadOutcome(
            requests,
            min(load.seconds, seconds),  # less if every connection was lost
            self.times.percentile(50),
            self.times.percentile(99),
            self.times.longest_us if requests else None,
            dict(sorted(self.refused.items())),
            self.lost,
            len(connected) - len(self.heard),
            cpu_s * 1e6 / requests if requests else None,
            cpu_s / seconds if seconds else 0.0,
            jain([*served, *[0] * (load.connections - len(served))]),
        )

    def _begin(self, client: _Client) -> None:
        """Send the first packet of a client."""
        self.waiting[client.sock.fileno()] = client
        self.poll.register(client.sock, select.EPOLLIN)
        data, client.left = next(client.packets)
        client.begun_ns = time.perf_counter_ns()
        self._send(client, data)

    def _answer(self, until_ns: int, *, counts: bool) -> None:  # noqa: PLR0912 - a call for each reply costs more
        """Send and receive until a time. If the time counts, packets are noted, and nothing is sent at the end."""
        clock, waiting, error_byte, add = time.perf_counter_ns, self.waiting, self.error_byte, self.times.add
        poll = self.poll.poll
        now_ns = clock()
        while waiting and now_ns < until_ns:
            for number, events in poll(POLL_S):
                client = waiting[number]
                if client.unsent:
                    self._send(client, client.unsent)
                if not events & ~select.EPOLLOUT:
                    continue
                try:
                    got = client.recv(client.recv_bytes)
                except BlockingIOError:
                    continue
                except OSError:
                    got = b""
                if not got:
                    self._lose(client)
                    continue
                if len(got) == client.recv_bytes:
                    client.recv_bytes = RECV_BYTES
                if error_byte in got:
                    self._count_refused(got)
                client.left -= got.count(b"\n")
                if client.left > 0:
                    continue
                now_ns = clock()
                if counts and now_ns > until_ns:
                    self._forget(client)
                    continue
                self.heard.add(client)
                if counts:
                    add((now_ns - client.begun_ns) // 1000)
                    client.answered += 1
                data, client.left = next(client.packets)
                client.begun_ns = now_ns
                try:
                    sent = client.send(data)
                except OSError:
                    sent = 0
                if sent != len(data):
                    self._send(client, data[sent:])
            now_ns = clock()

    def _drain(self, until_ns: int) -> None:
        """Receive the replies that are still to come, and send nothing new."""
        while self.waiting and (left_s := (until_ns - time.perf_counter_ns()) / 1e9) > 0:
            for number, _ in self.poll.poll(min(POLL_S, left_s)):
                client = self.waiting[number]
                if client.unsent:
                    self._send(client, client.unsent)
                try:
                    got = client.recv(RECV_BYTES)
                except BlockingIOError:
                    continue
                except OSError:
                    got = b""
                self._count_refused(got)
                client.left -= got.count(b"\n")
                if not got:
                    self._lose(client)
                elif client.left <= 0:
                    self._forget(client)

    def _send(self, client: _Client, data: bytes | memoryview) -> None:
        """Send as much as the kernel takes. epoll tells when it takes more."""
        view = memoryview(data)
        try:
            client.unsent = view[client.send(view) :]
        except BlockingIOError:
            client.unsent = view
        except OSError:
            return  # receiving fails, too, and ends the client
        self.poll.modify(client.sock, select.EPOLLIN | (select.EPOLLOUT if client.unsent else 0))

    def _lose(self, client: _Client) -> None:
        self.lost += 1
        self._forget(client)

    def _forget(self, client: _Client) -> None:
        del self.waiting[client.sock.fileno()]
        self.poll.unregister(client.sock)

    def _count_refused(self, got: bytes) -> None:
        for sign, status in self.signs.items():
            if number := got.count(sign):
                self.refused[status] += number
