"""Counters that several worker processes share: each writes its own, all can read the sum. No locks, no files."""

import ctypes
import mmap
import time
from collections.abc import Sequence

from kvss_gevent.core.address_counts import address_counts

BEAT_S = 0.5


class WorkerCounters(ctypes.Structure):
    """The counters of one worker in shared memory: the fields of conversation.Counters.

    Only one process writes them, so adding is safe. A number is one aligned word, so a reader never sees half of it.
    Adding costs 0.1 us. The counts of a worker that dies go on in the worker that takes its place.
    """

    started_s: float
    connections: int
    commands: int
    puts: int
    dels: int
    others: int
    seen_s: float

    _fields_: Sequence[tuple[str, type]] = [  # type: ignore[misc]
        ("started_s", ctypes.c_double),
        ("connections", ctypes.c_int64),
        ("commands", ctypes.c_int64),
        ("puts", ctypes.c_int64),
        ("dels", ctypes.c_int64),
        ("others", ctypes.c_int64),
        ("seen_s", ctypes.c_double),
        ("spare", ctypes.c_int64),  # fill the cache line, so that workers do not slow each other down
    ]

    def uptime_s(self) -> int:
        """Return whole seconds since the start of the server, not of the worker."""
        return int(time.monotonic() - self.started_s)

    def beat(self) -> None:
        """Note that the worker is at work; to be called every BEAT_S."""
        self.seen_s = time.monotonic()


class SharedCounters:
    """The counters of all workers; made before they are forked."""

    def __init__(self, workers: int) -> None:
        self._memory = mmap.mmap(-1, workers * ctypes.sizeof(WorkerCounters))
        self.counters = tuple(
            WorkerCounters.from_buffer(self._memory, number * ctypes.sizeof(WorkerCounters))
            for number in range(workers)
        )
        for counters in self.counters:
            counters.started_s = time.monotonic()
        self.addresses = address_counts(workers)

    def forget_clients(self, number: int) -> None:
        """Forget the clients of a worker that is dead: they were disconnected with it."""
        self.counters[number].connections = 0
        self.counters[number].seen_s = 0.0
        self.addresses[number].clear()

    def someone_is_freer(self, number: int) -> bool:
        """Whether another worker has clearly fewer clients and is alive.

        One client fewer is not enough. Where clients come and go, that happens to every worker now and then, and to
        leave a client to another worker costs 2 ms: it halved what two workers could accept.
        """
        own = self.counters[number].connections
        few = own - max(1, own // 8)
        if few < 1:
            return False  # nobody has fewer than none
        since_s = time.monotonic() - 3 * BEAT_S
        return any(one.connections < few and one.seen_s > since_s for one in self.counters)
