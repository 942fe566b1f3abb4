"""The figures of all workers in memory that they share: a row for each, written by its worker and read by any.

A worker counts in lists of its own and copies them here now and then. Its row outlives it. The worker that takes its
place goes on from there, so that no counter ever falls.
"""

import mmap
import struct
from collections.abc import Sequence
from typing import Final

from kvss_gevent.observe.latency_buckets import SHOWN
from kvss_gevent.protocol.wire import Status, Verb

COUNTERS: Final = ("connected", "bytes_in", "bytes_out", "slow", "cpu_us", "expired")
"""Numbers that only grow."""
GAUGES: Final = ("connections", "seen_ms", "looked_ms", "resident_bytes")
"""seen_ms, looked_ms: when the row, and when its bytes_in and bytes_out, were written, on the monotonic clock."""
HANDLED: Final = ("GET", "PUT", "DEL", "other", "several")
"""The content of a packet: one request, by its command, or several requests."""
HISTOGRAMS: Final = (*HANDLED, "store", "lag")
"""Times of handling, of a store that may wait, and of the loop: SHOWN classes, one for longer times, the sum in ns."""
HISTOGRAM_FIELDS: Final = SHOWN + 2

COMMANDS: Final = (*(verb.name for verb in Verb), "AUTH", "SLOWLOG", "LAB", "none")
"""`none`: a line that is not a request of KV/1.0."""
STATUSES: Final = tuple(Status)
REPLIES: Final = {
    (command, status): number
    for number, (command, status) in enumerate((command, status) for command in COMMANDS for status in STATUSES)
}
"""The place of each command and status in `replies`."""

TEXT_BYTES: Final = 4096
"""Bytes for a worker's busiest clients, as JSON."""

_SIZES: Final = (len(COUNTERS) + len(GAUGES), len(HISTOGRAMS) * HISTOGRAM_FIELDS, len(REPLIES))
ROW_FIELDS: Final = sum(_SIZES)
SLOW_ENTRIES: Final = 128
"""Entries of a worker's slow log. A new one takes the place of the oldest."""
SLOW_BYTES: Final = 1024
"""Bytes for an entry, as JSON."""
_ROW_BYTES: Final = ROW_FIELDS * 8 + TEXT_BYTES + SLOW_ENTRIES * SLOW_BYTES
_LENGTH: Final = struct.Struct("<I")


class WorkerRow:
    """One worker's figures."""

    def __init__(self, memory: memoryview) -> None:
        fields = memory[: ROW_FIELDS * 8].cast("q")
        scalars, histograms, replies = _SIZES
        self._scalars = fields[:scalars]
        self._histograms = fields[scalars : scalars + histograms]
        self.replies = fields[scalars + histograms : scalars + histograms + replies]
        """A counter for each of REPLIES."""
        self._text = memory[ROW_FIELDS * 8 : ROW_FIELDS * 8 + TEXT_BYTES]
        self._slow = memory[ROW_FIELDS * 8 + TEXT_BYTES :]

    def __getitem__(self, name: str) -> int:
        return self._scalars[_PLACE[name]]

    def __setitem__(self, name: str, value: int) -> None:
        self._scalars[_PLACE[name]] = value

    def histogram(self, name: str) -> memoryview:
        """Return the fields of a histogram: its classes, what is above them, the sum in ns."""
        start = HISTOGRAMS.index(name) * HISTOGRAM_FIELDS
        return self._histograms[start : start + HISTOGRAM_FIELDS]

    @property
    def text(self) -> bytes:
        """A text of at most TEXT_BYTES - 4. A reader may get half of a new text; as it is JSON, the reader notices."""
        return _read(self._text)

    @text.setter
    def text(self, text: bytes) -> None:
        _write(self._text, text)

    def write_slow(self, number: int, text: bytes) -> None:
        """Write an entry of the slow log, for the first time or again. An entry that is too long is left out."""
        _write(self._slow_entry(number), text if len(text) <= SLOW_BYTES - _LENGTH.size else b"")

    def slow_texts(self, most: int) -> list[bytes]:
        """Return the newest entries of the slow log, the newest first; left-out ones are empty."""
        written = self["slow"]
        kept = min(most, written, SLOW_ENTRIES)
        return [_read(self._slow_entry(number)) for number in range(written - 1, written - kept - 1, -1)]

    def _slow_entry(self, number: int) -> memoryview:
        start = number % SLOW_ENTRIES * SLOW_BYTES
        return self._slow[start : start + SLOW_BYTES]


class SharedFigures:
    """A row for each worker; made before they are forked."""

    def __init__(self, workers: int) -> None:
        memory = memoryview(mmap.mmap(-1, workers * _ROW_BYTES))
        self.rows: Sequence[WorkerRow] = [
            WorkerRow(memory[number * _ROW_BYTES : (number + 1) * _ROW_BYTES]) for number in range(workers)
        ]

    def total(self, name: str) -> int:
        """Return the sum of a counter or gauge over all workers."""
        return sum(row[name] for row in self.rows)

    def replies(self) -> list[int]:
        """Return the sums of REPLIES over all workers."""
        return [sum(column) for column in zip(*(row.replies for row in self.rows), strict=True)]

    def histogram(self, name: str) -> list[int]:
        """Return the fields of a histogram, summed over all workers."""
        return [sum(column) for column in zip(*(row.histogram(name) for row in self.rows), strict=True)]


def _read(memory: memoryview) -> bytes:
    (length,) = _LENGTH.unpack_from(memory)
    return bytes(memory[_LENGTH.size : _LENGTH.size + length])


def _write(memory: memoryview, text: bytes) -> None:
    _LENGTH.pack_into(memory, 0, len(text))
    memory[_LENGTH.size : _LENGTH.size + len(text)] = text


_PLACE: Final = {name: place for place, name in enumerate((*COUNTERS, *GAUGES))}
