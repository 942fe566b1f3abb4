"""Keys that end at a deadline, in memory, at 18 bytes a key: 8 before its value, and a place on a wheel (rule 15).

The wheel has a list of keys for every second in which some end. A key whose deadline moves away stays where it is: its
second comes, and it is put into its new one then. A key whose deadline comes nearer is put into the nearer second as
well; when such double places are as many as the keys, the wheel is made anew. So no sequence of requests can make it
grow without bound.
"""

import struct
import time
from collections.abc import Callable
from typing import Final

NS: Final = 1_000_000_000
"""In a second. Times are whole nanoseconds: a sum of them is exact."""

_DEADLINE = struct.Struct("=q")
_PREFIX_BYTES = _DEADLINE.size
_FEW = 1000
"""Double places that are not worth making the wheel anew."""


class ExpiringKeys:
    """A mapping from bytes to bytes whose entries are gone from their deadline on; clock returns nanoseconds.

    An entry that has ended is not returned by any method, whether it has been forgotten or not. ended(key, value) is
    called once for each, when it is forgotten: by reclaim, or by whoever comes across it.
    """

    __slots__ = ("_clock", "_ended", "_places", "_second", "_wheel", "ended_keys", "entries")

    def __init__(self, ended: Callable[[bytes, bytes], object], clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._ended = ended
        self._clock = clock
        self.entries: dict[bytes, bytes] = {}
        """Deadline and value by key, with entries that have ended and are not forgotten yet."""
        self._wheel: dict[int, list[bytes]] = {}
        self._second = clock() // NS
        """All seconds before this one have been emptied."""
        self._places = 0
        """Entries of all lists of the wheel."""
        self.ended_keys = 0
        """How many entries have been forgotten."""

    def put(self, key: bytes, value: bytes, seconds: int) -> None:
        """Store an entry that ends after so many seconds."""
        deadline_ns = self._clock() + seconds * NS
        old = self._find(key)
        self.entries[key] = _DEADLINE.pack(deadline_ns) + value
        if old is None or deadline_ns < _deadline_of(old):
            self._place(key, deadline_ns)
            if self._places > 2 * len(self.entries) + _FEW:
                self._make_anew()

    def get(self, key: bytes) -> bytes | None:
        """Return the value, or None."""
        entry = self._find(key)
        return None if entry is None else entry[_PREFIX_BYTES:]

    def seconds_left(self, key: bytes) -> int | None:
        """Return how long the entry will last, rounded up, or None where there is none."""
        entry = self._find(key)
        return None if entry is None else max(-((self._clock() - _deadline_of(entry)) // NS), 1)

    def pop(self, key: bytes) -> bytes | None:
        """Take an entry out; return its value, or None where there was none."""
        value = self.get(key)
        if value is not None:
            del self.entries[key]
        return value

    def reclaim(self, most: int) -> bool:
        """Look at no more than `most` keys whose second has passed; return whether some are left."""
        now = self._clock() // NS
        while self._second < now:
            keys = self._wheel.get(self._second)
            while keys:
                if most <= 0:
                    return True
                most -= 1
                self._places -= 1
                self._look_at(keys.pop())
            self._wheel.pop(self._second, None)
            self._second = self._next_second(now)
        return False

    def _look_at(self, key: bytes) -> None:
        entry = self._find(key)
        if entry is not None and _deadline_of(entry) // NS != self._second:  # it has moved
            self._place(key, _deadline_of(entry))

    def _find(self, key: bytes) -> bytes | None:
        """Return the entry of a key; forget it where it has ended."""
        entry = self.entries.get(key)
        if entry is None or _deadline_of(entry) > self._clock():
            return entry
        del self.entries[key]
        self.ended_keys += 1
        self._ended(key, entry[_PREFIX_BYTES:])
        return None

    def _next_second(self, until: int) -> int:
        """Return the next second with places; a step at a time, unless most of the seconds between are empty."""
        if until - self._second > len(self._wheel):
            return min((second for second in self._wheel if second < until), default=until)
        return self._second + 1

    def _place(self, key: bytes, deadline_ns: int) -> None:
        self._wheel.setdefault(deadline_ns // NS, []).append(key)
        self._places += 1

    def _make_anew(self) -> None:
        self._wheel = {}
        self._places = 0
        for key, entry in self.entries.items():
            self._place(key, _deadline_of(entry))


def _deadline_of(entry: bytes) -> int:
    deadline_ns: int = _DEADLINE.unpack_from(entry)[0]
    return deadline_ns
