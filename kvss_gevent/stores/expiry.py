"""Keys that end at a deadline, in memory, at 25 bytes each: 8 before its value, and a place on a wheel (rule 15).

The wheel has the keys of every half second in which some end. A key whose deadline moves away stays where it is: its
half second comes, and it is put into its new one then. A key whose deadline comes nearer, or that is taken out, leaves
its old place behind. When places left behind are as many as the keys, the wheel is made anew, a part at a time. So no
sequence of requests can make it grow without bound.

No call works on more than a few hundred keys. For this the entries are in many small dicts: one large dict takes 100 ms
to grow at a million keys. And the wheel has tuples: the garbage collector walks through a list each time.
"""

import struct
from collections.abc import Callable, Sequence
from typing import Final

NS: Final = 1_000_000_000
"""Nanoseconds in a second. Times are whole nanoseconds, so their sums are exact."""
TICK_NS: Final = NS // 2

_DEADLINE: Final = struct.Struct(">q")
"""The highest byte comes first, so entries compare as their deadlines do."""
_PREFIX_BYTES: Final = _DEADLINE.size
_SHARDS: Final = 1024
"""A power of two. With two million keys each has 2,000 and grows in 0.1 ms."""
_CHUNK_KEYS: Final = 64
"""Keys in a tuple of the wheel. The garbage collector looks at 700 tuples at a time, once."""
_STEP_KEYS: Final = 256
_PUTS_PER_STEP: Final = 64
"""After this many stored keys, put does a step of reclaim. This is enough even if nobody calls reclaim."""
_FEW: Final = 1000
"""With fewer old places than this, the wheel is not made anew."""

Chunks = list[list[bytes] | tuple[bytes, ...]]
"""Keys of one half second: tuples, and at the end one list that is being filled."""


class ExpiringKeys:
    """A mapping from bytes to bytes whose entries end at a deadline; clock returns nanoseconds.

    No method returns an entry that has ended, even if it is still stored. Such entries are forgotten by reclaim, now
    and then by put, and by a look-up that finds one. Then ended is called with the number of entries and the bytes of
    their keys and values.
    """

    __slots__ = (
        "_clock",
        "_ended",
        "_old_wheel",
        "_places",
        "_shards",
        "_tick",
        "_unplaced",
        "_wheel",
        "count",
        "ended_keys",
    )

    def __init__(self, ended: Callable[[int, int], object], clock: Callable[[], int]) -> None:
        self._ended = ended
        self._clock = clock
        self.count = 0
        """How many entries are stored. Entries that have ended and are not yet forgotten count, too."""
        self.ended_keys = 0
        """How many entries have ended and been forgotten."""
        self._shards: list[dict[bytes, bytes]] = [{} for _ in range(_SHARDS)]
        """Deadline and value by key."""
        self._wheel: dict[int, Chunks] = {}
        self._places = 0
        """Keys on the wheel."""
        self._tick = clock() // TICK_NS
        """The first half second that is not emptied yet."""
        self._old_wheel: dict[int, Chunks] = {}
        self._unplaced = 0
        """While the wheel is made anew: the first shards, whose keys are not on it yet."""

    def put(self, key: bytes, value: bytes, seconds: int) -> None:
        """Store an entry that ends after so many seconds."""
        deadline_ns = self._clock() + seconds * NS
        entry = _DEADLINE.pack(deadline_ns) + value
        shard = self._shards[hash(key) % _SHARDS]
        old = self._find(shard, key)
        shard[key] = entry
        if old is None:
            self.count += 1
        elif old <= entry:
            return
        self._place(key, deadline_ns)
        if self._places % _PUTS_PER_STEP == 0:
            self.reclaim(_STEP_KEYS)

    def get(self, key: bytes) -> bytes | None:
        """Return the value, or None."""
        entry = self._find(self._shards[hash(key) % _SHARDS], key)
        return None if entry is None else entry[_PREFIX_BYTES:]

    def __contains__(self, key: bytes) -> bool:
        """Tell whether there is an entry, even one that has ended and is not yet forgotten."""
        return key in self._shards[hash(key) % _SHARDS]

    def seconds_left(self, key: bytes) -> int | None:
        """Return how many seconds the entry has left, rounded up; None if there is no entry."""
        entry = self._find(self._shards[hash(key) % _SHARDS], key)
        return None if entry is None else max(-((self._clock() - _deadline_of(entry)) // NS), 1)

    def pop(self, key: bytes) -> bytes | None:
        """Take an entry out; return its value, or None if there was none."""
        shard = self._shards[hash(key) % _SHARDS]
        entry = self._find(shard, key)
        if entry is None:
            return None
        del shard[key]
        self.count -= 1
        return entry[_PREFIX_BYTES:]

    def reclaim(self, most: int) -> bool:
        """Forget about `most` keys that have ended; return whether there is more to do."""
        now_ns = self._clock()
        most -= self._make_anew(most)
        while self._tick < now_ns // TICK_NS:
            chunks = self._wheel.get(self._tick)
            while chunks:
                if most <= 0:
                    return True
                keys = chunks.pop()
                most -= len(keys)
                self._places -= len(keys)
                self._look_at(keys, now_ns)
            self._wheel.pop(self._tick, None)
            self._tick = self._next_tick(now_ns // TICK_NS)
        return bool(self._unplaced or self._old_wheel)

    def _look_at(self, keys: Sequence[bytes], now_ns: int) -> None:
        """Forget those of these keys that have ended. The others have another place on the wheel, or none."""
        shards, ended, ended_bytes = self._shards, 0, 0
        until = _DEADLINE.pack(now_ns + 1)
        for key in keys:
            shard = shards[hash(key) % _SHARDS]
            entry = shard.get(key)
            if entry is None:
                continue
            if entry < until:
                del shard[key]
                ended += 1
                ended_bytes += len(key) + len(entry)
            elif _deadline_of(entry) // TICK_NS != self._tick:
                self._place(key, _deadline_of(entry))
        self.count -= ended
        self.ended_keys += ended
        self._ended(ended, ended_bytes - ended * _PREFIX_BYTES)

    def _find(self, shard: dict[bytes, bytes], key: bytes) -> bytes | None:
        """Return the entry of a key; forget it if it has ended."""
        entry = shard.get(key)
        if entry is None or _deadline_of(entry) > self._clock():
            return entry
        del shard[key]
        self.count -= 1
        self.ended_keys += 1
        self._ended(1, len(key) + len(entry) - _PREFIX_BYTES)
        return None

    def _next_tick(self, until: int) -> int:
        """Return the next half second that has places; go step by step unless most half seconds between are empty."""
        if until - self._tick > len(self._wheel):
            return min((tick for tick in self._wheel if tick < until), default=until)
        return self._tick + 1

    def _place(self, key: bytes, deadline_ns: int) -> None:
        chunks = self._wheel.setdefault(max(deadline_ns // TICK_NS, self._tick), [])
        last = chunks[-1] if chunks else ()
        if isinstance(last, tuple):
            last = []
            chunks.append(last)
        last.append(key)
        if len(last) == _CHUNK_KEYS:
            chunks[-1] = tuple(last)
        self._places += 1

    def _make_anew(self, most: int) -> int:
        """Do one step of making the wheel anew, if that is worth it; return how many keys were looked at.

        A key that has no place meanwhile is forgotten later than others, or by a look-up that finds it.
        """
        if not self._unplaced and not self._old_wheel:
            if self._places <= 2 * self.count + _FEW:
                return 0
            self._old_wheel, self._wheel = self._wheel, {}
            self._places, self._unplaced = 0, _SHARDS
        looked_at = 0
        while self._unplaced and looked_at < most:
            self._unplaced -= 1
            shard = self._shards[self._unplaced]
            looked_at += len(shard) + 1
            for key, entry in shard.items():
                self._place(key, _deadline_of(entry))
        while self._old_wheel and looked_at < most:
            chunks = next(reversed(self._old_wheel.values()))
            looked_at += len(chunks.pop()) if chunks else 1
            if not chunks:
                self._old_wheel.popitem()
        return looked_at


def _deadline_of(entry: bytes) -> int:
    deadline_ns: int = _DEADLINE.unpack_from(entry)[0]
    return deadline_ns
