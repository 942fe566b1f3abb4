"""Runs commands inside one LMDB transaction; the form of a record."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from kvss_gevent.protocol.wire import DEL, GET, LINE, OK_PREFIX, PUT, TTL, Status
from kvss_gevent.stores.base import Batch
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

logger = logging.getLogger("kvss")

SERVER_ERROR = LINE[Status.SERVER_ERROR]

LARGE_RECORD_BYTES = 1000
"""A smaller record never has pages of its own."""

RECENT_REPLIES = 16384
RECENT_REPLY_BYTES = 1024
"""The longest reply that is remembered. All of them take 5 MiB with values of 64 bytes, and 26 MiB at most."""


no_reply: Callable[[bytes], bytes | None] = dict[bytes, bytes]().get


def run(  # noqa: PLR0912 - one loop: a call for each command would cost a tenth of it
    txn: Any, deadlines: Deadlines, batch: Batch, limit_bytes: int, recent: dict[bytes, bytes] | None = None
) -> list[bytes]:
    """Run commands in order and return their reply lines; stop early once those exceed limit_bytes.

    recent: replies to GETs by key, used and kept up to date; see RecentReplies. Without it nothing is remembered.
    """
    get = txn.get
    known = no_reply if recent is None else recent.get
    replies: list[bytes] = []
    for verb, key, value in batch:
        if verb == GET:
            reply = known(key)
            if reply is None:
                record = get(key)
                reply = _reply(record, deadlines)
                if recent is not None and record and len(reply) <= RECENT_REPLY_BYTES and record.startswith(PERMANENT):
                    recent[key] = reply
            replies.append(reply)
            limit_bytes -= len(reply)
            if limit_bytes < 0:
                break
        elif verb == PUT:
            record = PERMANENT + value[:-1]
            if recent is not None and recent.pop(key, None) is not None:
                # The key exists, and its record is not large. A plain put costs half of a replace.
                txn.put(key, record)
                replies.append(OK)
            else:
                old = _replace(txn, key, record)
                was_there = old is not None and (old.startswith(PERMANENT) or deadlines.replaced(txn, key, old))
                replies.append(OK if was_there else CREATED)
            if recent is not None and len(value) <= RECENT_REPLY_BYTES - len(OK_PREFIX):
                recent[key] = OK_PREFIX + value
        elif verb == TTL:
            replies.append(deadlines.ttl(txn, key))
        else:
            if recent is not None:
                recent.pop(key, None)
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
    """Replies to GETs of keys that do not expire, run beside writes, by key.

    A pipelined request that finds its reply here takes 0.34 us instead of 0.63. The replies are used only inside write
    transactions, where nobody else can write, and only if nobody has written since: LMDB numbers its transactions. When
    there are more than RECENT_REPLIES, all are forgotten.
    """

    def __init__(self) -> None:
        self._replies: dict[bytes, bytes] = {}
        self.as_of: int | None = None
        """The number of the last transaction that wrote. LMDB reuses the number of one that wrote nothing."""

    def inside(self, txn: Any) -> dict[bytes, bytes]:
        """Return the replies that are still valid when a write transaction begins. In it, `run` keeps them valid."""
        if self.as_of != txn.id() - 1 or len(self._replies) > RECENT_REPLIES:
            self._replies.clear()
        self.as_of = None
        return self._replies
