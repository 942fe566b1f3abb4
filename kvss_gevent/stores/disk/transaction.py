"""Write transactions of the disk store, how commands run inside them, and the replies that are remembered."""

import errno
import logging
import os
from functools import partial
from typing import Any

import lmdb

from kvss_gevent.protocol.wire import DEL, GET_LINE, LINE, OK_PREFIX, PUT, READING_VERBS, TTL, Status
from kvss_gevent.stores.base import ReplyTable, Run
from kvss_gevent.stores.disk.deadlines import (
    CREATED,
    FORMAT_1,
    HEADER_BYTES,
    NO_CONTENT,
    NOT_FOUND,
    OK,
    PERMANENT,
    Deadlines,
)
from kvss_gevent.stores.disk.environment import DiskEnvironment
from kvss_gevent.stores.disk.file.reserve import is_full

logger = logging.getLogger("kvss")

SERVER_ERROR = LINE[Status.SERVER_ERROR]

LARGE_RECORD_BYTES = 1000
"""A smaller record never has pages of its own."""

RECENT_REPLIES = 16384
RECENT_REPLY_BYTES = 1024
"""The longest reply that is remembered. All of them take 5 MiB with values of 64 bytes, and 28 MiB at most."""
RECENT_VALUE_BYTES = RECENT_REPLY_BYTES - len(OK_PREFIX)

RECLAIMED_KEYS = 500
"""Ended keys that one transaction deletes besides what clients asked for: 2 ms of work.

More of them make a transaction longer: each lies on another page, which is copied and written. With 4,000 in a
transaction, deleting two million takes two thirds of the time, but a client's write waits five times as long.
"""
RECLAIM_BYTES = 4 << 10
"""The room that one of them may need: a page is copied before it is free. With less room, fewer are deleted at once.

On a full disk, too many would take the reserve, and leave the file with holes that nothing can fill.
"""
FEW_KEYS = 4
"""So many are deleted although there is no room for them: pages of their own become free, or the reserve is enough."""
RESERVED_PAGES = 32
"""Pages that PUT leaves free under --max-disk, because LMDB needs new pages to delete, too."""
RESERVED_PAGES_A_LEVEL = 2
"""More of them for each level of the trees: a page of each is copied, and LMDB reuses the old one two commits later.

Trees of random keys of 500 bytes have ten levels and more.
"""

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class NoRoom(Exception):
    """The transaction was undone because the file may not grow."""


class Transaction:
    """A write transaction. It ends with a `commit` that succeeds, with `undo` after any fault, or with `abort`.

    The caller holds map.writing, which is released at the end. recent: the remembered replies; they stay true.
    reclaim_s: the longest time for deleting keys that have ended. Raises lmdb.Error.
    """

    __slots__ = (
        "_deadlines",
        "_effects",
        "_environment",
        "_has_room",
        "_number",
        "_recent",
        "_reclaim_s",
        "_txn",
        "run",
    )

    def __init__(self, environment: DiskEnvironment, recent: "RecentReplies", reclaim_s: float) -> None:
        self._environment = environment
        self._recent = recent
        self._reclaim_s = reclaim_s
        self._deadlines = deadlines = environment.deadlines
        self._txn: Any = environment.handle.begin(write=True)
        txn = self._txn
        self._number: int = txn.id()
        before = self._number - 1
        table = recent.table if recent.as_of == before else recent.at(before)
        if deadlines.in_use:
            deadlines.in_use = txn.stat(deadlines.index)["entries"] > 0
        deadlines.forgotten = 0
        self._has_room = False
        self._effects = Effects()
        self.run = runner(txn, deadlines, table, self._effects)
        """Runs one command. Raises lmdb.Error."""

    def room_bytes(self) -> int:
        """Return how much PUT may still add to the file; negative if it has added too much."""
        txn, deadlines = self._txn, self._deadlines
        stat = txn.stat()
        used_pages = stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
        levels = stat["depth"]
        if deadlines.in_use:
            index = txn.stat(deadlines.index)
            used_pages += index["branch_pages"] + index["leaf_pages"]
            levels += index["depth"]
        reserved_pages = RESERVED_PAGES + RESERVED_PAGES_A_LEVEL * levels
        free_pages: int = self._environment.most_pages - reserved_pages - used_pages
        return free_pages * int(stat["psize"])

    def has_room(self, size_bytes: int) -> bool:
        """Tell whether so much fits into the file and on the disk. If it does, the transaction may not write more."""
        descriptor = self._environment.file.descriptor
        if descriptor is None or self.room_bytes() < size_bytes:
            return False
        disk = os.fstatvfs(descriptor)
        self._has_room = disk.f_bavail * disk.f_frsize >= size_bytes
        return self._has_room

    def commit(self) -> None:
        """Commit what was run. Raises NoRoom and lmdb.Error."""
        environment, deadlines, txn = self._environment, self._deadlines, self._txn
        if not self._has_room and self._effects.wrote and self.room_bytes() < 0:
            raise NoRoom(environment.full())
        if deadlines.in_use and deadlines.ended(txn, 1):
            # A nested transaction: if there is no room for it, only this one is undone.
            before = deadlines.forgotten
            most = min(self.room_bytes() // RECLAIM_BYTES, RECLAIMED_KEYS)
            try:
                with environment.handle.begin(parent=txn, write=True) as inner:
                    deadlines.reclaim(inner, max(most, FEW_KEYS), self._reclaim_s)
            except lmdb.MapFullError:
                deadlines.forgotten = before
        txn.commit()
        # LMDB reuses the number of a transaction that wrote nothing.
        wrote = self._effects.wrote or self._effects.deleted or deadlines.forgotten
        self._recent.end(self._number if wrote else self._number - 1)
        environment.expired_keys += deadlines.forgotten
        environment.unsynced = True
        environment.map.writing.release()

    def abort(self) -> None:
        """End a transaction in which nothing was run."""
        self._txn.abort()
        self._environment.map.writing.release()

    def undo(self, fault: BaseException) -> BaseException:
        """Undo what was run after a fault; return the fault as NoRoom if the file may not grow."""
        environment = self._environment
        self._recent.forget()
        self.abort()
        if isinstance(fault, lmdb.MapFullError):
            return NoRoom(environment.full())
        code = getattr(fault, "code", None)
        # The kernel writes only a part where the room ends, and LMDB reports that as an I/O error.
        if code in NO_SPACE or (code == errno.EIO and is_full(environment.path.parent)):
            environment.hold_still()
            return NoRoom(environment.full())
        return fault


class Effects:
    """What a transaction has done so far: whether a key was stored or changed, and whether one was deleted."""

    wrote = deleted = False


def runner(txn: Any, deadlines: Deadlines, recent: ReplyTable, effects: Effects) -> Run:
    """Return a function that runs one command in a transaction; it raises lmdb.Error.

    A function with what it needs around it takes a third less time than a method, which must look that up in an object.
    recent: replies to GETs by request line, true when the transaction began. They are used and kept true.
    """
    put = txn.put
    replace = partial(_replace, txn)
    read = reader(txn, deadlines, recent)

    def run(verb: int, key: bytes, value: bytes) -> bytes:
        request = GET_LINE % key
        if verb is PUT:
            effects.wrote = True
            record = PERMANENT + value[:-1]
            if request in recent:
                # The key exists, and its record is not large. A plain put costs half of a replace.
                put(key, record)
                reply = OK
            else:
                old = replace(key, record)
                was_there = old is not None and (old.startswith(PERMANENT) or deadlines.replaced(txn, key, old))
                reply = OK if was_there else CREATED
            if len(value) <= RECENT_VALUE_BYTES:
                recent[request] = OK_PREFIX + value
            else:
                recent.pop(request, None)
                recent.largest_bytes = max(recent.largest_bytes, len(OK_PREFIX) + len(value))
            return reply
        if verb in READING_VERBS:
            return read(verb, key, value)
        return run_other(verb, key, value, request)

    def run_other(verb: int, key: bytes, value: bytes, request: bytes) -> bytes:
        recent.pop(request, None)
        if verb is not DEL:
            reply = deadlines.run(txn, verb, key, value, partial(replace, key))
            effects.wrote = effects.wrote or reply != NOT_FOUND
            return reply
        reply = deadlines.delete(txn, key)
        effects.deleted = effects.deleted or reply == NO_CONTENT
        return reply

    return run


def reader(txn: Any, deadlines: Deadlines, recent: ReplyTable | None) -> Run:
    """Return a function that runs one GET or TTL in a transaction; see runner. recent: None to remember nothing."""
    get = txn.get

    def read(verb: int, key: bytes, _: bytes) -> bytes:
        if verb is TTL:
            return deadlines.ttl(txn, key)
        if recent is None:
            return _reply(get(key), deadlines)
        request = GET_LINE % key
        found = recent.get(request)
        if found is None:
            record = get(key)
            found = _reply(record, deadlines)
            if len(found) > RECENT_REPLY_BYTES:
                recent.largest_bytes = max(recent.largest_bytes, len(found))
            elif record and record.startswith(PERMANENT):
                recent[request] = found
        return found

    return read


def _reply(record: bytes | None, deadlines: Deadlines) -> bytes:
    if record is None:
        return NOT_FOUND
    if record[:HEADER_BYTES] == PERMANENT:
        return b"200 OK %b\n" % record[HEADER_BYTES:]
    if record[:1] == FORMAT_1:
        return b"200 OK %b\n" % record[HEADER_BYTES:] if deadlines.is_live(record) else NOT_FOUND
    logger.error("a record was written by a newer version of kvss-gevent, or is damaged: GET gets 500")
    return SERVER_ERROR


def _replace(txn: Any, key: bytes, record: bytes) -> bytes | None:
    """Store a record; return the old one."""
    # replace returns the old record. A put without overwriting and then one with it costs twice as much.
    old: bytes | None = txn.replace(key, record)
    if old is not None and len(old) > len(record) and len(old) > LARGE_RECORD_BYTES:
        # If this transaction wrote the larger record, LMDB keeps all its pages for the smaller one. That wastes them,
        # and the verifier of files calls the store damaged.
        txn.delete(key)
        txn.put(key, record)
    return old


class RecentReplies:
    """Replies to GETs of keys that do not expire, by request line: copies of what one transaction has left in the file.

    A GET that finds its reply in the table takes as long as in memory, 3 us less than with a read transaction. LMDB
    numbers its transactions, and the number of the last one stands in the lock file, in shared memory: one look tells
    whether another process has written since. In a write transaction nobody else can write, and its runner keeps the
    table true. When there are more than RECENT_REPLIES, all are forgotten.
    """

    def __init__(self, environment: DiskEnvironment) -> None:
        self._environment = environment
        self.table = ReplyTable(self.renew)
        self.table.largest_bytes = RECENT_REPLY_BYTES
        self.as_of: int | None = None
        """The number of the last transaction that the table knows; None within a write transaction, and if it is empty.
        """

    def renew(self) -> bool:
        """Forget all if another process has written, or if the file must not be read; return whether all is true."""
        environment = self._environment
        mutex = environment.write_mutex
        if mutex is None or mutex.last_commit[0] != self.as_of or environment.unreadable:
            self.forget()
            return False
        return True

    def at(self, number: int) -> ReplyTable:
        """Return the replies that are true after the transaction of this number, for the begin of the next one."""
        if self.as_of != number or len(self.table) > RECENT_REPLIES:
            self.forget()
            self.as_of = number
            self._environment.deadlines.in_use = True  # perhaps; the next write transaction looks
        return self.table

    def end(self, number: int) -> None:
        """Note that a write transaction has ended, and what the number of the last commit is since."""
        self.as_of = number
        if len(self.table) > RECENT_REPLIES:
            self.forget()

    def forget(self) -> None:
        """Forget all."""
        self.table.clear()
        self.as_of = None
