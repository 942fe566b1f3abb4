"""Events in memory that processes share. It is made before the first fork and has a slot for each process.

If a process is killed, its events stay in its slot. A slot is a ring: when it is full, a new event replaces the oldest.
The events of a slot have consecutive numbers, from which the reader knows how many are lost.
"""

import itertools
import mmap
import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvss_gevent.trace.events import Event, What

RECORD = struct.Struct("<QIIII6Q32s")
"""Sequence number, what, conversation, bytes in and out, two stamps, and the first 32 bytes of the head."""
RECORD_BYTES, pack_into = RECORD.size, RECORD.pack_into
SLOTS = 64
SLOT_EVENTS = 4096


@dataclass(frozen=True, slots=True)
class Noted:
    """An event that was read from a ring. Times are nanoseconds; cpu and delay are those of the thread."""

    process: int
    what: What
    conversation: int
    bytes_in: int
    bytes_out: int
    began_ns: int
    began_cpu_ns: int
    began_delay_ns: int
    ended_ns: int
    ended_cpu_ns: int
    ended_delay_ns: int
    head: bytes

    @property
    def wall_ns(self) -> int:
        """How long it took."""
        return self.ended_ns - self.began_ns

    @property
    def cpu_ns(self) -> int:
        """The thread's CPU time in it."""
        return self.ended_cpu_ns - self.began_cpu_ns


class Ring:
    """Writes events. The first process makes it, and the processes that it forks use it too.

    Every process writes into its own slot, which it takes when it is forked (see follow_forks). If no slot is left, the
    process ends at once.
    """

    def __init__(self, path: Path, slots: int = SLOTS, slot_events: int = SLOT_EVENTS) -> None:
        size = slots * slot_events * RECORD_BYTES
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.ftruncate(descriptor, size)
            # Populated, because a page fault in a request would look like a wait.
            self._memory = mmap.mmap(descriptor, size, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE)
        finally:
            os.close(descriptor)
        self._slot_events = slot_events
        # A process takes a slot by reading a byte from a pipe: the kernel gives each byte to one process only.
        self._free, free_end = os.pipe()
        os.write(free_end, bytes(range(slots)))
        os.close(free_end)
        self._forked_ns = 0
        self._take_slot()

    def follow_forks(self) -> None:
        """Give a slot to every process that this one forks from now on, and note each fork. It cannot be undone."""
        os.register_at_fork(before=self._before_fork, after_in_parent=self._forked, after_in_child=self._born)

    def put(self, event: Event) -> None:
        """Write one event whose stamps are those of a CPU clock."""
        what, conversation, began, ended, bytes_in, bytes_out, head = event
        number = self._next()
        place = self._start + number % self._slot_events * RECORD_BYTES
        pack_into(self._memory, place, number + 1, what, conversation, bytes_in, bytes_out, *began, *ended, head)

    def _take_slot(self) -> None:
        taken = os.read(self._free, 1)
        if not taken:
            os.write(2, b"more processes than slots for their events\n")
            os._exit(1)
        self._start = taken[0] * self._slot_events * RECORD_BYTES
        self._next = itertools.count().__next__

    def _before_fork(self) -> None:
        self._forked_ns = time.monotonic_ns()

    def _forked(self) -> None:
        self._put_fork(What.FORK)

    def _born(self) -> None:
        self._take_slot()
        self._put_fork(What.BORN)

    def _put_fork(self, what: What) -> None:
        self.put((what, 0, (self._forked_ns, 0, 0), (time.monotonic_ns(), 0, 0), os.getpid(), os.getppid(), b""))


def read(path: Path, slot_events: int = SLOT_EVENTS) -> tuple[list[Noted], int]:
    """Return all events of a ring's file, in the order of their begins, and the number of lost events."""
    noted: list[Noted] = []
    lost = 0
    data = path.read_bytes()
    slot_bytes = slot_events * RECORD_BYTES
    for process, start in enumerate(range(0, len(data), slot_bytes)):
        rows = [row for row in RECORD.iter_unpack(data[start : start + slot_bytes]) if row[0]]
        lost += max((row[0] for row in rows), default=0) - len(rows)
        noted += [_noted(process, row) for row in rows]
    noted.sort(key=lambda one: one.began_ns)
    return noted, lost


def _noted(process: int, row: tuple[Any, ...]) -> Noted:
    values = [process, What(row[1]), *row[2:-1], row[-1].rstrip(b"\0")]
    return Noted(*values)
