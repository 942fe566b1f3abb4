"""Runs commands inside one LMDB transaction; the form of a record; the replies that are remembered."""

import logging
from functools import partial
from typing import Any

from kvss_gevent.protocol.wire import DEL, GET, GET_LINE, LINE, OK_PREFIX, PUT, TTL, Status
from kvss_gevent.stores.base import Batch, ReplyTable
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

logger = logging.getLogger("kvss")

SERVER_ERROR = LINE[Status.SERVER_ERROR]

LARGE_RECORD_BYTES = 1000
"""A smaller record never has pages of its own."""

RECENT_REPLIES = 16384
RECENT_REPLY_BYTES = 1024
"""The longest reply that is remembered. All of them take 5 MiB with values of 64 bytes, and 28 MiB at most."""
RECENT_VALUE_BYTES = RECENT_REPLY_BYTES - len(OK_PREFIX)


def run(  # noqa: PLR0912 - one loop: a call for each command would cost a tenth of it
    txn: Any, deadlines: Deadlines, batch: Batch, limit_bytes: int, recent: dict[bytes, bytes]
) -> list[bytes]:
    """Run commands in order and return their reply lines; stop early once those exceed limit_bytes.

    recent: replies to GETs by request line, true when the transaction began. They are used and kept true.
    """
    put = txn.put
    replies: list[bytes] = []
    for verb, key, value in batch:
        request = GET_LINE % key
        if verb == PUT:
            record = PERMANENT + value[:-1]
            if request in recent:
                # The key exists, and its record is not large. A plain put costs half of a replace.
                put(key, record)
                replies.append(OK)
            else:
                old = _replace(txn, key, record)
                was_there = old is not None and (old.startswith(PERMANENT) or deadlines.replaced(txn, key, old))
                replies.append(OK if was_there else CREATED)
            if len(value) <= RECENT_VALUE_BYTES:
                recent[request] = OK_PREFIX + value
            else:
                recent.pop(request, None)
        elif verb == GET:
            reply = recent.get(request)
            if reply is None:
                record = txn.get(key)
                reply = _reply(record, deadlines)
                if record and len(reply) <= RECENT_REPLY_BYTES and record.startswith(PERMANENT):
                    recent[request] = reply
            replies.append(reply)
            limit_bytes -= len(reply)
            if limit_bytes < 0:
                break
        elif verb == TTL:
            replies.append(deadlines.ttl(txn, key))
        else:
            recent.pop(request, None)
            if verb != DEL:
                replies.append(deadlines.run(txn, verb, key, value, partial(_replace, txn, key)))
            elif deadlines.in_use:
                replies.append(deadlines.delete(txn, key))
            else:
                replies.append(NO_CONTENT if txn.delete(key) else NOT_FOUND)
    return replies


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
    whether another process has written since. In a write transaction nobody else can write, and `run` keeps the table
    true. When there are more than RECENT_REPLIES, all are forgotten.
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
