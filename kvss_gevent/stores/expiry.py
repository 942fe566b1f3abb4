"""Keys that end at a deadline, in memory, at 18 bytes a key: 8 before its value, and a place on a wheel (rule 15).

The wheel has a list of keys for every second in which some end. A key whose deadline moves away stays where it is: its
second comes, and it is put into its new one then. A key whose deadline comes nearer is put into the nearer second as
well; when such double places are as many as the keys, the wheel is made anew. So no sequence of requests can make it
grow without bound.
"""

import struct
import time
from collections.abc import Callable

_DEADLINE = struct.Struct("=d")
_PREFIX_BYTES = _DEADLINE.size
_FEW = 1000
"""Double places that are not worth making the wheel anew."""


class ExpiringKeys:
    """A mapping from bytes to bytes whose entries are gone from their deadline on; clock returns seconds.

    An entry that has ended is not returned by any method, whether it has been reclaimed or not.
    """

    __slots__ = ("_clock", "_entries", "_places", "_second", "_wheel")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._entries: dict[bytes, bytes] = {}
        self._wheel: dict[int, list[bytes]] = {}
        self._second = int(clock())
        """All seconds before this one have been emptied."""
        self._places = 0
        """Entries of all lists of the wheel."""

    def __len__(self) -> int:
        """Return the number of entries, with those that have ended and are not reclaimed yet."""
        return len(self._entries)

    def put(self, key: bytes, value: bytes, seconds: float) -> None:
        """Store an entry that ends after so many seconds."""
        deadline_s = self._clock() + seconds
        old = self._entries.get(key)
        self._entries[key] = _DEADLINE.pack(deadline_s) + value
        if old is None or deadline_s < _DEADLINE.unpack_from(old)[0]:
            self._place(key, deadline_s)
            if self._places > 2 * len(self._entries) + _FEW:
                self._make_anew()

    def get(self, key: bytes) -> bytes | None:
        """Return the value, or None."""
        entry = self._entries.get(key)
        if entry is None or _DEADLINE.unpack_from(entry)[0] <= self._clock():
            return None
        return entry[_PREFIX_BYTES:]

    def seconds_left(self, key: bytes) -> float | None:
        """Return how long the entry will last, or None where there is none."""
        entry = self._entries.get(key)
        left_s = _DEADLINE.unpack_from(entry)[0] - self._clock() if entry is not None else 0.0
        return left_s if left_s > 0 else None

    def pop(self, key: bytes) -> bytes | None:
        """Take an entry out; return its value, or None where there was none or it had ended.

        Where it had ended, whoever counts its bytes is told by reclaim.
        """
        value = self.get(key)
        if value is not None:
            del self._entries[key]
        return value

    def reclaim(self, most: int, ended: Callable[[bytes, bytes], object]) -> bool:
        """Look at no more than `most` places whose second has passed; return whether some are left.

        ended(key, value) is called for each entry that has ended and is forgotten now.
        """
        now_s = self._clock()
        while self._second < int(now_s):
            keys = self._wheel.get(self._second)
            while keys:
                if most <= 0:
                    return True
                most -= 1
                self._places -= 1
                self._look_at(keys.pop(), now_s, ended)
            self._wheel.pop(self._second, None)
            self._second = self._next_second(int(now_s))
        return False

    def _look_at(self, key: bytes, now_s: float, ended: Callable[[bytes, bytes], object]) -> None:
        entry = self._entries.get(key)
        if entry is None:
            return  # taken out, or forgotten by way of its other place
        deadline_s = _DEADLINE.unpack_from(entry)[0]
        if deadline_s <= now_s:
            del self._entries[key]
            ended(key, entry[_PREFIX_BYTES:])
        elif int(deadline_s) != self._second:
            self._place(key, deadline_s)

    def _next_second(self, until: int) -> int:
        """Return the next second with places; a step at a time, unless most of the seconds between are empty."""
        if until - self._second > len(self._wheel):
            return min((second for second in self._wheel if second < until), default=until)
        return self._second + 1

    def _place(self, key: bytes, deadline_s: float) -> None:
        self._wheel.setdefault(int(deadline_s), []).append(key)
        self._places += 1

    def _make_anew(self) -> None:
        self._wheel = {}
        self._places = 0
        for key, entry in self._entries.items():
            self._place(key, _DEADLINE.unpack_from(entry)[0])
