"""A closed-loop load generator for saturation: many connections, a fixed pipeline depth, one process, on gevent.

Each connection sends a packet of requests, waits for all replies, and sends the next. So a server that stalls is asked
less meanwhile, and the stall counts once for each connection: how long clients would have waited at a given rate is not
to be seen here. loadtest/ sends at a rate. The loop is the one of server.py, with its three rules.
"""

import contextlib
import itertools
import selectors
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from types import MethodType
from typing import Any

import gevent
import gevent.event
from greenlet import getcurrent, greenlet

from kvss_gevent.measure.load import PACKETS, Load, Outcome, Times, jain, key_of, make_packets
from kvss_gevent.protocol.wire import OK_PREFIX, REPLY, Status, Verb, build_request, shorten

READ, WRITE = 1, 2

RECV_BYTES = 1 << 18
SMALL_RECV_BYTES = 448
LIMIT_S = 5.0
"""For storing the keys, for connecting, and for every connection to be answered once: each at most this long."""

QUIET_S = 0.5
ASK_ONCE = build_request(Verb.STATS)
"""A request whose reply is short whatever the values are."""

SIGNS = {b"V": Status.SERVER_ERROR, b"B": Status.BAD_REQUEST, b"G": Status.UPGRADE_REQUIRED, b"F": Status.NOT_FOUND}
"""A letter that stands in one phrase and in no other reply: bytes are counted, and a packet's end splits no byte."""


class Unusable(Exception):
    """There is no server to load, or it does not take the requests; the message says why."""


def run(host: str, port: int, load: Load, at_edge: Callable[[], None] = lambda: None) -> Outcome:
    """Load the server and return what came of it; takes at most 3 LIMIT_S and drain_s beyond the seconds asked for.

    at_edge is called when the time that counts begins and when it ends, to read what others have used. Raises Unusable.
    """
    gevent.config.track_greenlet_tree = False
    address, family = _resolve(host, port)
    _preload(address, family, load)
    return _Run(load).measure(address, family, at_edge)


class _Run:
    def __init__(self, load: Load) -> None:
        self.load = load
        self.packets = make_packets(load)
        self.times = Times()
        self.refused: Counter[Status] = Counter()
        self.lost = 0
        self.heard = 0
        self.served: list[int] = []
        self.read = gevent.event.Event()
        """Set once at_edge has been called for the second time: a thread that serves a connection ends with it."""
        self.from_ns = self.until_ns = 0
        hub = gevent.get_hub()
        self.loop = hub.loop
        self.wait = MethodType(greenlet.switch, hub)

    def measure(self, address: Any, family: int, at_edge: Callable[[], None]) -> Outcome:
        load = self.load
        connected = list(self._connected(address, family))
        sockets = self._answered_once(connected)
        now_ns = time.perf_counter_ns()
        self.from_ns = now_ns + int(load.warmup_s * 1e9)
        self.until_ns = self.from_ns + int(load.seconds * 1e9)
        workers = [gevent.spawn(self._drive, sock, number) for number, sock in enumerate(sockets)]
        gevent.sleep(load.warmup_s)
        at_edge()
        cpu_s, begun_ns = time.process_time(), time.perf_counter_ns()
        gevent.joinall(workers, load.seconds)
        cpu_s, seconds = time.process_time() - cpu_s, (time.perf_counter_ns() - begun_ns) / 1e9
        at_edge()
        self.read.set()
        gevent.joinall(workers, load.drain_s)
        gevent.killall(workers)
        for sock in set(connected).difference(sockets):
            sock.close()
        requests = self.times.count * load.depth
        return Outcome(
            requests,
            min(load.seconds, seconds),  # less where every connection was lost
            self.times.percentile(50),
            self.times.percentile(99),
            self.times.longest_us if requests else None,
            {f"{status:d} {status.name}": number for status, number in sorted(self.refused.items())},
            self.lost,
            len(connected) - self.heard,
            cpu_s * 1e6 / requests if requests else None,
            cpu_s / seconds,
            jain([*self.served, *[0] * (load.connections - len(self.served))]),
        )

    def _connected(self, address: Any, family: int) -> Iterator[socket.socket]:
        deadline_s = time.monotonic() + LIMIT_S
        for _ in range(self.load.connections):
            try:
                yield _connect(address, family, max(0.001, deadline_s - time.monotonic()))
            except OSError:
                self.lost += 1

    def _answered_once(self, socks: list[socket.socket]) -> list[socket.socket]:
        """Ask once on every connection; return those on which the server did something, in good order.

        Whoever makes a thread or a process for each client is given the time for it. When nobody has heard anything for
        QUIET_S, the others will not either.
        """
        heard: set[socket.socket] = set()
        deadline_s = time.monotonic() + LIMIT_S
        with selectors.DefaultSelector() as waiting:
            for sock in socks:
                with contextlib.suppress(OSError):
                    sock.sendall(ASK_ONCE)
                waiting.register(sock, selectors.EVENT_READ)
            while waiting.get_map() and time.monotonic() < deadline_s:
                ready = waiting.select(QUIET_S)
                if not ready:
                    break
                for key, _ in ready:
                    sock = key.fileobj  # type: ignore[assignment]
                    waiting.unregister(sock)
                    heard.add(sock)
                    with contextlib.suppress(OSError):
                        self._count_refused(sock.recv(SMALL_RECV_BYTES))
        return [sock for sock in socks if sock in heard]

    def _drive(self, sock: socket.socket, number: int) -> None:
        """Be the greenlet of one connection."""
        sock.setblocking(False)
        readable = self.loop.io(sock.fileno(), READ)
        readable.start(getcurrent().switch)
        try:
            self._ask_until_the_end(sock, readable, number)
            readable.stop()
            self.read.wait(self.load.drain_s)
        except OSError:
            self.lost += 1
        finally:
            readable.stop()
            readable.close()
            sock.close()

    def _ask_until_the_end(self, sock: socket.socket, readable: Any, number: int) -> None:
        wait, recv, send, clock = self.wait, sock.recv, sock.send, time.perf_counter_ns
        packets, add, depth = self.packets, self.times.add, self.load.depth
        from_ns, until_ns = self.from_ns, self.until_ns
        room = SMALL_RECV_BYTES
        heard = False
        answered = 0
        for data in itertools.islice(itertools.cycle(packets), number % PACKETS, None):
            begun_ns = clock()
            if begun_ns >= until_ns:
                self.served.append(answered)
                return
            try:
                sent = send(data)
            except BlockingIOError:
                sent = 0
            if sent != len(data):
                self._send_rest(sock, readable, data[sent:])
            left = depth
            while left > 0:
                wait()
                try:
                    got = recv(room)
                except BlockingIOError:
                    continue
                if not got:
                    raise ConnectionError("the server closed the connection")
                if len(got) == room:
                    room = RECV_BYTES
                left -= got.count(b"\n")
                if b"_" in got:
                    self._count_refused(got)
            ended_ns = clock()
            if not heard and ended_ns <= until_ns:
                heard = True
                self.heard += 1
            if begun_ns >= from_ns and ended_ns <= until_ns:
                add((ended_ns - begun_ns) // 1000)
                answered += 1

    def _count_refused(self, got: bytes) -> None:
        for sign, status in SIGNS.items():
            if number := got.count(sign):
                self.refused[status] += number

    def _send_rest(self, sock: socket.socket, readable: Any, unsent: bytes) -> None:
        """Send what the kernel did not take; replies wait in the kernel meanwhile (the first rule)."""
        readable.stop()
        writable = self.loop.io(sock.fileno(), WRITE)
        view = memoryview(unsent)
        try:
            while view:
                gevent.get_hub().wait(writable)
                try:
                    view = view[sock.send(view) :]
                except BlockingIOError:
                    continue
        finally:
            writable.close()
        readable.start(getcurrent().switch)


def _resolve(host: str, port: int) -> tuple[Any, int]:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise Unusable(getattr(error, "strerror", None) or "no such host name") from None
    return address, family


def _connect(address: Any, family: int, timeout_s: float) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout_s)
        sock.connect(address)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:
        sock.close()
        raise
    return sock


def _preload(address: Any, family: int, load: Load) -> None:
    """Store every key once, so that every GET finds one. Raises Unusable."""
    stored = (REPLY[Status.OK], REPLY[Status.CREATED])
    deadline_s = time.monotonic() + LIMIT_S
    try:
        with _connect(address, family, LIMIT_S) as sock, sock.makefile("rb") as replies:
            for first in range(0, load.keys, 16):
                keys = range(first, min(first + 16, load.keys))
                sock.settimeout(max(0.001, deadline_s - time.monotonic()))
                sock.sendall(b"".join(build_request(Verb.PUT, key_of(key), b"x" * load.value_bytes) for key in keys))
                for _ in keys:
                    reply = replies.readline(len(OK_PREFIX) + 60).rstrip(b"\n")
                    if reply not in stored:
                        raise Unusable(
                            f"it answered {shorten(reply)} to a PUT" if reply else "it closed the connection"
                        )
    except TimeoutError:
        raise Unusable(f"{load.keys} keys could not be stored within {LIMIT_S:g} s") from None
    except OSError as error:
        raise Unusable((error.strerror or str(error)).lower()) from None
