"""Values that can be verified, and the ledger of the writes that the server has acknowledged.

A value is `checksum key writer version floor filler`. Versions count the writes of one key. Only one process writes a
key (key number modulo the number of processes), so only it assigns the key's versions. The rule for a read:

- `floor` of a key: every write up to this version is superseded, because a later write was sent after all their
  replies and has been answered. A GET that is sent after that must not return them.
- A write without a reply may take effect at any time. It stays in flight for ever, and the floor cannot pass it. So
  the check becomes weaker for its key, but it is never wrong.

If all processes are on one machine, they share floors and deletions, so that each can verify its reads of all keys. It
reads the floor before it sends a GET, and the deletions after the reply; a deletion is noted before its DEL is sent.
"""

from array import array
from typing import TypeAlias
from zlib import crc32

from kvss_gevent.loadtest.workload.lifetimes import Lifetimes
from kvss_gevent.loadtest.workload.shared_columns import SharedColumns

NOT_PROVEN = -1
"""No hash in Python is -1."""

NO_READ = ""
TORN = "torn value"
WRONG_KEY = "another key's value"
STALE = "stale value"
LOST = "acknowledged value is gone"
OUTLIVED = "value outlived its deadline"
WRONG_DATA = (TORN, WRONG_KEY, STALE, LOST, OUTLIVED)
"""The failures of a server that has lost or damaged data which it had acknowledged."""

Column: TypeAlias = "array[int] | memoryview"
"""A number for each key."""

_FILLER_BYTES = 1 << 16
_FILLER = bytes(33 + (i * 7919) % 94 for i in range(_FILLER_BYTES))


def key_bytes(number: int) -> bytes:
    """Return the key of a key number."""
    return b"user%d" % number


def least_bytes(key_count: int) -> int:
    """Return the smallest size of a value that has room for the fields of the verification."""
    return 8 + 1 + len(key_bytes(key_count * 10)) + 1 + 10 + 1 + 8 + 1 + 8 + 1 + 1


def make_value(key: bytes, writer: bytes, version: int, floor: int, size: int) -> bytes:
    """Return a value of `size` bytes, or a few more if its head is longer."""
    head = b"%s %s %d %d " % (key, writer, version, floor)
    room = size - len(head) - 9
    # The usual case is written out, to save the call of filler().
    body = head + (_FILLER[:room] if 0 < room <= _FILLER_BYTES else filler(max(room, 1)))
    return b"%08x %s" % (crc32(body), body)


def filler(size: int) -> bytes:
    """Return `size` printable bytes without a space."""
    if size <= _FILLER_BYTES:
        return _FILLER[:size]
    return (_FILLER * (size // _FILLER_BYTES + 1))[:size]


class Ledger:
    """What one process knows of every key. Keys with numbers from `count` on come from inserts; the ledger grows.

    It uses arrays: 10,000 keys then fit into the cache of a core. With lists of ints and replies, every GET costs a
    dozen cache misses, 1 us.
    """

    __slots__ = (
        "_count",
        "deleted",
        "floor",
        "in_flight",
        "inserting",
        "lifetimes",
        "oldest",
        "present",
        "proven",
        "proven_version",
        "share",
        "token",
        "verifies",
        "versions",
        "worker",
        "writer",
    )

    def __init__(
        self,
        count: int,
        token: bytes,
        part: tuple[int, int] = (0, 1),
        loaded: bool = False,
        shared: SharedColumns | None = None,
    ) -> None:
        """Begin empty, or, with loaded, with version 1 of every key. part: this process's number, number of processes.

        shared: the columns that all processes of the run share, for loaded keys.
        """
        self.worker, self.share = part
        self.verifies = True
        self.lifetimes: Lifetimes | None = None
        """The lifetimes of the values, if they are written with a time to live."""
        self.token = token
        self.writer = b"%s.%d" % (token, self.worker)
        self.versions = array("q", [1 if loaded else 0]) * count
        self.floor: Column = shared.floor if shared else array("q", [0 if loaded else -1]) * count
        self.in_flight = array("q", [0]) * count
        self.oldest = array("q", [0]) * count
        self.deleted: Column = shared.deleted if shared else array("q", [0]) * count
        self.present: Column = shared.present if shared else array("q", [i == self.worker for i in range(self.share)])
        # The hash of a whole reply that was verified and is not superseded; NOT_PROVEN if there is none.
        self.proven = array("q", [NOT_PROVEN]) * count
        self.proven_version = array("q", [0]) * count
        self.inserting: set[int] = set()
        self._count = count

    def own(self, key: int) -> int:
        """Return the key nearest to `key` that this process may write."""
        if self.share == 1:
            return key
        mine = key - key % self.share + self.worker
        return mine if mine < self._count else self.worker

    def grow(self) -> int:
        """Return the number of a new key that this process may write."""
        new = self._count
        while new % self.share != self.worker:
            new += 1
        more = new + 1 - self._count
        for column, value in (
            (self.versions, 0),
            (self.in_flight, 0),
            (self.oldest, 0),
            (self.proven, NOT_PROVEN),
            (self.proven_version, 0),
        ):
            column.extend([value] * more)
        if isinstance(self.floor, array) and isinstance(self.deleted, array):
            self.floor.extend([-1] * more)
            self.deleted.extend([0] * more)
        else:
            self.floor[new] = -1
        self._count = new + 1
        self.inserting.add(new)
        return new

    def newest(self) -> int:
        """Return the last key up to which every insert of this process has been acknowledged."""
        return min(self.inserting) - 1 if self.inserting else self._count - 1

    def begin(self, key: int, delete: bool = False) -> tuple[int, int]:
        """Note that a write is being sent; returns its version and the version up to which it supersedes."""
        version = self.versions[key] + 1
        self.versions[key] = version
        if delete:
            self.deleted[key] = version
        in_flight = self.in_flight[key]
        self.in_flight[key] = in_flight + 1
        if self.lifetimes:
            self.lifetimes.begun(key, alone=not in_flight)
        if in_flight:
            return version, self.oldest[key] - 1
        self.oldest[key] = version
        return version, version - 1

    def end(self, key: int, floor: int) -> None:
        """Note that the write to which `begin` gave this floor has been answered."""
        self.in_flight[key] -= 1
        self.supersede(key, floor)

    def stored(self, key: int, version: int, floor: int, reply: bytes) -> None:
        """Note that a PUT of this version was answered; reply is what a GET will get. It replaces three calls."""
        self.in_flight[key] -= 1
        if self.lifetimes:
            self.lifetimes.answered(key)
            self.supersede(key, floor)
            return
        before = self.floor[key]
        if version > self.proven_version[key] and version > before:
            self.proven[key] = hash(reply)
            self.proven_version[key] = version
            if floor > before:
                self.floor[key] = floor
        else:
            self.supersede(key, floor)

    def supersede(self, key: int, floor: int) -> None:
        """Note that every version up to `floor` is superseded; a verified reply of one of them is forgotten."""
        if floor > self.floor[key]:
            self.floor[key] = floor
            if self.lifetimes and self._is_own(key):
                self.lifetimes.superseded(key)
            if self.proven_version[key] <= floor:
                self.proven[key] = NOT_PROVEN

    def _is_own(self, key: int) -> bool:
        return key % self.share == self.worker

    def refused(self, key: int) -> None:
        """Note that a write was refused with a reply that says that it had no effect (400 or 426)."""
        self.in_flight[key] -= 1

    def missing(self, key: int, floor: int) -> str:
        """Judge a 404 for a key whose floor was `floor` when the request was sent: "" or LOST."""
        if not self.present[key % self.share] or self.deleted[key] > floor or floor < 0:
            return NO_READ
        # If the floor has moved, it is not known which value was stored when the request was sent.
        if self.lifetimes and (not self._is_own(key) or self.floor[key] != floor or self.lifetimes.may_have_ended(key)):
            return NO_READ
        return LOST

    def missing_deleted(self, key: int, version: int, gone: bool) -> str:
        """Judge a 404 for a DEL of this version. gone: its key may have been deleted before."""
        if gone or self.deleted[key] > version or self.floor[key] < 0 or self.lifetimes:
            return NO_READ
        return LOST

    def remember(self, key: int, version: int, reply: bytes) -> None:
        """Keep the hash of a verified reply in `proven[key]`, unless that of a later version is known.

        The next equal reply is then recognised in 0.1 us instead of 1. Two different replies have the same hash with
        the probability 2**-64; the checksum in a value has 32 bits.
        """
        if not self._is_own(key) or self.lifetimes:
            return  # This process is not told when another one supersedes the version.
        if version > self.proven_version[key] and version > self.floor[key]:
            self.proven[key] = hash(reply)
            self.proven_version[key] = version

    def judge(self, key: int, floor: int, reply: bytes) -> str:
        """Judge a reply `200 OK value` for a key whose floor was `floor` when the request was sent: "" or a failure."""
        parts = reply.split(b" ", 7)
        if len(parts) != 8 or parts[2] != b"%08x" % crc32(reply[16:]):
            return TORN
        if parts[3] != b"user%d" % key:
            return WRONG_KEY
        writer = parts[4]
        if not writer.startswith(self.token):
            # A value of an earlier run is right until this run has written or loaded the key.
            return STALE if floor >= 0 else NO_READ
        version = int(parts[5])
        if version <= floor:
            return STALE
        is_last = version == self.versions[key] and not self.in_flight[key]
        if self.lifetimes and version > 1 and is_last and self.lifetimes.must_have_ended(key):
            return OUTLIVED
        self.supersede(key, int(parts[6]))
        self.remember(key, version, reply)
        return NO_READ
