"""Two million keys that end in the same second: how long it takes to forget them, and what others feel of it.

Run as `python -m bench.expiry [KEYS [STORE]]`; four minutes. A server stores keys with PUTEX over one connection.
Another asks for a permanent key every millisecond, before the keys end and while they are forgotten; a third asks for
keys that end, and counts the wrong replies. The last lines are of the memory store, in processor time,
which other programs on the machine disturb less: for how long each turn of a server's event loop holds it, and how long
each step of the store alone takes. The last one is the memory of a key with a deadline and without.
"""

import contextlib
import itertools
import multiprocessing
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import gevent

from kvss_gevent import KVClient
from kvss_gevent.core.service import Service
from kvss_gevent.measure.launch import kvss, launched
from kvss_gevent.measure.process_usage import resident_bytes
from kvss_gevent.protocol.errors import KVError
from kvss_gevent.protocol.wire import PUT, PUTEX
from kvss_gevent.server.gevent_server import KVServer
from kvss_gevent.server.timeouts import RECLAIM_KEYS
from kvss_gevent.settings.config import Config
from kvss_gevent.stores.memory import MemoryStore

KEYS = 2_000_000
BATCH = 2000
VALUE = b"v" * 64
ASK_INTERVAL_S = 0.001
QUIET_S = 3.0
MARGIN = 1.5
"""Times what storing the first keys took, for the others."""


class Pauses:
    """A client that asks again and again, and notes when it asked and how long each reply took."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.seen: list[tuple[float, float]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def _ask(self) -> None:
        with KVClient("127.0.0.1", self._port) as client:
            while not self._stop.wait(ASK_INTERVAL_S):
                began_s = time.monotonic()
                client.get(b"permanent")
                self.seen.append((began_s, time.monotonic() - began_s))

    def stop(self) -> None:
        """End it."""
        self._stop.set()
        self._thread.join()

    def between(self, begin_s: float, end_s: float) -> str:
        """Return median, 99th percentile and maximum, in milliseconds, of what was asked in this time."""
        took = sorted(took_s * 1000 for at_s, took_s in self.seen if begin_s <= at_s < end_s)
        middle, high = took[len(took) // 2], took[len(took) * 99 // 100]
        return f"median {middle:.2f} ms, 99 % {high:.2f} ms, longest {took[-1]:.2f} ms, of {len(took)}"


def ask_stale(port: int, keys: int, first_s: float, last_s: float, told: Connection) -> None:
    """Ask for keys that end, until a second after the last has; tell how many replies were wrong, and of how many."""
    wrong = asked = 0
    with KVClient("127.0.0.1", port) as client:
        while time.monotonic() < last_s + 5:
            names = [b"key:%08d" % (number * 7919 % keys) for number in range(asked, asked + 20)]
            began_s = time.monotonic()
            pipeline = client.pipeline()
            for name in names:
                pipeline.get(name)
            values = pipeline.execute()
            ended_s = time.monotonic()
            asked += len(names)
            if ended_s < first_s:
                wrong += values.count(None)
            elif began_s >= last_s:
                wrong += len(values) - values.count(None)
            time.sleep(0.002)
    told.send((wrong, asked))


def fill(port: int, keys: int) -> tuple[float, float]:
    """Store keys that end at about one time; return the earliest and the latest deadline that one can have."""
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        began_s = time.monotonic()
        for begin in range(0, keys // 20, BATCH):
            store(sock, range(begin, begin + BATCH), 1000)
        needed_s = 20 * (time.monotonic() - began_s)
        end_s = time.monotonic() + MARGIN * needed_s + 10
        first_s, last_s = end_s, 0.0
        for begin in range(0, keys, BATCH):
            now_s = time.monotonic()
            seconds = round(end_s - now_s)
            store(sock, range(begin, min(begin + BATCH, keys)), seconds)
            first_s, last_s = min(first_s, now_s + seconds), max(last_s, time.monotonic() + seconds)
    return first_s, last_s


def store(sock: socket.socket, numbers: range, seconds: int) -> None:
    """Store keys in one go."""
    if seconds < 1:
        raise SystemExit("the server became slower: try again, or with fewer keys")
    sock.sendall(b"".join(b"KV/1.0 PUTEX %d key:%08d %b\n" % (seconds, number, VALUE) for number in numbers))
    left = len(numbers)
    while left:
        left -= sock.recv(1 << 16).count(b"\n")


def served(keys: int, store_url: str) -> None:
    """Measure a server."""
    with launched(kvss("--store", store_url)) as server, KVClient("127.0.0.1", server.port) as client:
        client.put(b"permanent", VALUE)
        began_s = time.monotonic()
        first_s, last_s = fill(server.port, keys)
        print(f"{keys} keys stored in {time.monotonic() - began_s:.1f} s; they end within {last_s - first_s:.2f} s")
        here, there = multiprocessing.Pipe()
        asker = multiprocessing.Process(target=ask_stale, args=(server.port, keys, first_s, last_s, there), daemon=True)
        asker.start()
        pauses = Pauses(server.port)
        time.sleep(max(first_s - time.monotonic(), 0))
        while client.stats().keys_stored > 1 and time.monotonic() < last_s + 60:
            time.sleep(0.05)
        done_s = time.monotonic()
        wrong, asked = here.recv()
        pauses.stop()
        print(f"forgotten {done_s - last_s:.2f} s after the last deadline")
        print(f"another client before:    {pauses.between(first_s - QUIET_S, first_s)}")
        print(f"another client meanwhile: {pauses.between(first_s, done_s)}")
        print(f"wrong replies: {wrong} of {asked}", flush=True)


class Clock:
    """The monotonic clock, put forward."""

    ahead_ns = 0

    def __call__(self) -> int:
        """Return nanoseconds."""
        return time.monotonic_ns() + self.ahead_ns


def filled(keys: int, verb: int, clock: Clock) -> MemoryStore:
    """Return a store with keys; those stored with PUTEX end in an hour."""
    store = MemoryStore(clock=clock)
    front = b"3600 " if verb == PUTEX else b""
    for number in range(keys):
        store.run(verb, b"key:%08d" % number, front + VALUE + b"\n")
    return store


def keep_asking(port: int) -> None:
    """Ask a server until it ends: for a key every millisecond, and every 50 ms for STATS."""
    with contextlib.suppress(KVError), KVClient("127.0.0.1", port) as client:
        for number in itertools.count():
            client.get(b"none")
            if number % 50 == 0:
                client.stats()
            time.sleep(ASK_INTERVAL_S)


def turns(keys: int, told: Connection) -> None:
    """Run a server whose keys end all at once; tell the processor time of its loop's turns before, and meanwhile."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    asker = multiprocessing.Process(target=keep_asking, args=(listener.getsockname()[1],), daemon=True)
    asker.start()
    clock = Clock()
    store = filled(keys, PUTEX, clock)
    server = KVServer(listener, Service(store), Config())
    server.start()
    loop = gevent.get_hub().loop
    took_ms: list[float] = []
    began_ns = time.thread_time_ns()

    def begin() -> None:
        nonlocal began_ns
        began_ns = time.thread_time_ns()

    watchers = loop.check(), loop.prepare()  # called right after and right before the loop waits for events
    watchers[0].start(begin)
    watchers[1].start(lambda: took_ms.append((time.thread_time_ns() - began_ns) / 1e6))
    gevent.sleep(1)
    before_ms = max(took_ms)
    took_ms.clear()
    clock.ahead_ns = 3602 * 10**9
    while store.expired_keys < keys:
        gevent.sleep(0.01)
    told.send((before_ms, took_ms))
    server.drain(1)


def alone(keys: int, verb: int, told: Connection) -> None:
    """Fill a store, and let all keys end where they do."""
    clock = Clock()
    before_bytes = resident_bytes(os.getpid())
    store = filled(keys, verb, clock)
    bytes_a_key = (resident_bytes(os.getpid()) - before_bytes) / keys
    clock.ahead_ns = 3602 * 10**9
    steps = []
    more = True
    while more:
        began_ns = time.thread_time_ns()
        more = store.reclaim(RECLAIM_KEYS)
        steps.append((time.thread_time_ns() - began_ns) / 1e6)
    told.send((bytes_a_key, steps))


def told_by(measure: Callable[..., None], *args: int) -> Any:
    """Run a function in a process of its own; return what it tells."""
    here, there = multiprocessing.Pipe()
    multiprocessing.Process(target=measure, args=(*args, there)).start()
    there.close()
    return here.recv()


def main() -> None:
    """Run, and print."""
    keys = int(sys.argv[1]) if len(sys.argv) > 1 else KEYS
    served(keys, sys.argv[2] if len(sys.argv) > 2 else "memory:")
    before_ms, took_ms = told_by(turns, keys)
    took_ms.sort()
    print(
        f"the loop meanwhile: {len(took_ms)} turns; a turn: median {took_ms[len(took_ms) // 2]:.2f} ms of processor "
        f"time, 99 % {took_ms[len(took_ms) * 99 // 100]:.2f} ms, longest {took_ms[-1]:.2f} ms "
        f"(before: {before_ms:.2f} ms)"
    )
    found = {verb: told_by(alone, keys, verb) for verb in (PUT, PUTEX)}
    steps = sorted(found[PUTEX][1])
    print(
        f"the store alone: {len(steps)} steps of {RECLAIM_KEYS} keys, {sum(steps) / 1000:.2f} s of processor time; "
        f"a step: median {steps[len(steps) // 2]:.2f} ms, longest {steps[-1]:.2f} ms"
    )
    print(f"bytes a key: {found[PUT][0]:.0f}, with a deadline {found[PUTEX][0]:.0f}")


if __name__ == "__main__":
    main()
