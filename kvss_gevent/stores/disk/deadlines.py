"""Keys that expire in the LMDB file: their records' deadlines, and an index of them by time (rule 15).

The index is a named database of the file, from deadline and key to nothing. It has an entry for each record with a
deadline, put in and taken out in the transaction that writes the record. Deadlines are wall-clock time, because they
must stay right after a restart of the machine. If the clock is set forward, keys end early; if it is set back, they end
late.
"""

import hashlib
import sys
import time
from collections.abc import Callable
from itertools import islice, takewhile
from typing import Any, Final

import lmdb

from kvss_gevent.protocol.wire import EXPIRE, LINE, PUTEX, Status
from kvss_gevent.stores.base import split_seconds

NAME: Final = b" deadlines"
"""The name of the database. It is no client's key: those have no space."""
FORMAT_1: Final = b"\x01"
PERMANENT: Final = FORMAT_1 + bytes(8)
"""The beginning of a record that does not expire: the format, and eight bytes for a deadline in milliseconds."""
HEADER_BYTES: Final = len(PERMANENT)

COUNTED_KEYS: Final = 10_000
"""STATS leaves out at most this many keys that have ended; 2 ms of work."""
_LONGEST_KEY_BYTES: Final = 511 - 8
"""Of a longer key the index holds a hash: with the eight bytes of a deadline, it would be too long for LMDB."""

OK, CREATED, NO_CONTENT = LINE[Status.OK], LINE[Status.CREATED], LINE[Status.NO_CONTENT]
NOT_FOUND = LINE[Status.NOT_FOUND]

Clock = Callable[[], int]


def wall_clock_ms() -> int:
    """Return milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class Deadlines:
    """The deadlines of one open file; clock returns milliseconds. A txn is one of the file's environment.

    in_use: False if it is known that no key of the file expires. forgotten: how many keys that had ended have been
    replaced or deleted since it was set to 0.
    """

    def __init__(self, environment: lmdb.Environment, clock: Clock = wall_clock_ms) -> None:
        self.clock = clock
        self.in_use = False
        self.forgotten = 0
        self._fit = sys.maxsize
        """How many keys `reclaim` may delete at once: LMDB copies their pages before it can free them."""
        self._tried = 0
        self.index: Any = None
        try:
            self.index = environment.open_db(NAME, create=False)
        except lmdb.NotFoundError:  # a new file, or one of a version without deadlines
            if not environment.flags()["readonly"]:
                self.index = environment.open_db(NAME)
                environment.sync(True)

    def is_live(self, record: bytes) -> bool:
        """Tell whether the deadline of a record that has one is still to come."""
        return _deadline_ms(record) > self.clock()

    def find(self, txn: Any, key: bytes) -> bytes | None:
        """Return the record of a key; None if there is none or it has ended."""
        record: bytes | None = txn.get(key)
        if record is None or record[:HEADER_BYTES] == PERMANENT or self.is_live(record):
            return record
        return None

    def replaced(self, txn: Any, key: bytes, old: bytes | None) -> bool:
        """Remove the old record of a key from the index; return whether there was a record that had not ended."""
        if old is None:
            return False
        if old[:HEADER_BYTES] == PERMANENT:
            return True
        txn.delete(_index_key(_deadline_ms(old), key), db=self.index)
        if self.is_live(old):
            return True
        self.forgotten += 1
        return False

    def delete(self, txn: Any, key: bytes) -> bytes:
        """Run DEL; return the reply line."""
        deleted = self.replaced(txn, key, txn.pop(key)) if self.in_use else txn.delete(key)
        return NO_CONTENT if deleted else NOT_FOUND

    def ttl(self, txn: Any, key: bytes) -> bytes:
        """Run TTL; return the reply line."""
        record = self.find(txn, key)
        if record is None:
            return NOT_FOUND
        if record[:HEADER_BYTES] == PERMANENT:
            return b"200 OK -1\n"
        return b"200 OK %d\n" % max(-((self.clock() - _deadline_ms(record)) // 1000), 1)

    def run(self, txn: Any, verb: int, key: bytes, value: bytes, replace: Callable[[bytes], bytes | None]) -> bytes:
        """Run PUTEX, EXPIRE or PERSIST; return the reply line. replace stores a record and returns the old one."""
        deadline_ms = 0
        if verb in (PUTEX, EXPIRE):
            seconds, value = split_seconds(value)
            deadline_ms = self.clock() + seconds * 1000
        if verb == PUTEX:
            value = value[:-1]
        else:
            found = self.find(txn, key)
            if found is None:
                return NOT_FOUND
            value = found[HEADER_BYTES:]
        was_there = self.replaced(txn, key, replace(FORMAT_1 + deadline_ms.to_bytes(8, "big") + value))
        if deadline_ms:
            self.in_use = True
            # The index keeps a key that is too long for it in the value.
            txn.put(_index_key(deadline_ms, key), key if len(key) > _LONGEST_KEY_BYTES else b"", db=self.index)
        return CREATED if verb == PUTEX and not was_there else OK

    def reclaim(self, txn: Any, most: int, most_s: float) -> None:
        """Delete up to `most` keys that have ended, for at most `most_s` seconds, but at least one key.

        Raises lmdb.MapFullError if the file has no room to delete so many at once. The next call then deletes fewer,
        and so it does if this transaction is undone.
        """
        number = txn.id()
        # LMDB gives the number of a transaction that was undone to the next one.
        self._fit = min(most, max(self._fit // 4, 1) if number == self._tried else 2 * self._fit)
        self._tried = number
        now_ms = self.clock()
        until_s = time.monotonic() + most_s
        cursor = txn.cursor(db=self.index)
        left = self._fit
        try:
            while left and cursor.first() and _time_ms(cursor.key()) <= now_ms:
                txn.delete(cursor.value() or cursor.key()[8:])
                cursor.delete()
                self.forgotten += 1
                left -= 1
                if time.monotonic() >= until_s:
                    break
        except lmdb.MapFullError:
            self._fit = max(self._fit // 8, 1)
            raise

    def ended(self, txn: Any, most: int = COUNTED_KEYS) -> int:
        """Return how many keys have ended and are still stored, counted up to `most`."""
        if self.index is None:
            return 0
        now_ms = self.clock()
        keys = islice(txn.cursor(db=self.index).iternext(values=False), most)
        return sum(1 for _ in takewhile(lambda key: _time_ms(key) <= now_ms, keys))


def _deadline_ms(record: bytes) -> int:
    return int.from_bytes(record[1:HEADER_BYTES], "big")


def _time_ms(index_key: bytes) -> int:
    return int.from_bytes(index_key[:8], "big")


def _index_key(deadline_ms: int, key: bytes) -> bytes:
    if len(key) > _LONGEST_KEY_BYTES:
        key = b" " + hashlib.sha256(key).digest()
    return deadline_ms.to_bytes(8, "big") + key
