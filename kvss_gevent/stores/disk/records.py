"""What is done inside one LMDB transaction, and the form of a record."""

import logging
from typing import Any

from kvss_gevent.protocol.wire import GET, LINE, OK_PREFIX, PUT, Status
from kvss_gevent.stores.base import Batch

logger = logging.getLogger("kvss")

FORMAT_1 = b"\x01"
RECORD_HEADER = FORMAT_1 + bytes(8)
"""The format of a record, and 8 bytes for the time of its expiry, which format 1 does not use. The value follows."""

OK, CREATED, NO_CONTENT = LINE[Status.OK], LINE[Status.CREATED], LINE[Status.NO_CONTENT]
NOT_FOUND, SERVER_ERROR = LINE[Status.NOT_FOUND], LINE[Status.SERVER_ERROR]

_HEADER_BYTES = len(RECORD_HEADER)

LARGE_RECORD_BYTES = 1000
"""No smaller one has pages of its own."""

RECENT_REPLIES = 16384
RECENT_REPLY_BYTES = 1024
"""The longest reply that is remembered: all of them take 5 MiB with values of 64 bytes, and 26 MiB at most."""


def run(txn: Any, batch: Batch, limit_bytes: int, recent: dict[bytes, bytes] | None = None) -> list[bytes]:
    """Run commands in order and return their reply lines; stop early once those exceed limit_bytes.

    recent: replies to GETs by key, to be used and kept right; see RecentReplies. Without it nothing is remembered.
    """
    get = txn.get
    replies: list[bytes] = []
    for verb, key, value in batch:
        if verb == GET:
            known = recent.get(key) if recent is not None else None
            reply = known or _reply(get(key))
            replies.append(reply)
            limit_bytes -= len(reply)
            if limit_bytes < 0:
                break
            if recent is not None and known is None and len(reply) <= RECENT_REPLY_BYTES and reply is not NOT_FOUND:
                recent[key] = reply
        elif verb == PUT:
            record = RECORD_HEADER + value[:-1]
            if recent is not None and recent.pop(key, None) is not None:
                # It is there, and not large: a plain put costs half of a replace.
                txn.put(key, record)
                replies.append(OK)
            else:
                replies.append(CREATED if _replace(txn, key, record) else OK)
            if recent is not None and len(value) <= RECENT_REPLY_BYTES - len(OK_PREFIX):
                recent[key] = OK_PREFIX + value
        else:
            if recent is not None:
                recent.pop(key, None)
            replies.append(NO_CONTENT if txn.delete(key) else NOT_FOUND)
    return replies


def _reply(record: bytes | None) -> bytes:
    if record is None:
        return NOT_FOUND
    if record[:1] == FORMAT_1:
        return b"200 OK %b\n" % record[_HEADER_BYTES:]
    logger.error("a record was written by a newer version of kvss-gevent, or is damaged: GET gets 500")
    return SERVER_ERROR


def _replace(txn: Any, key: bytes, record: bytes) -> bool:
    """Store a record; return whether the key is new."""
    # It returns the record replaced; to put without overwriting first, and then with, costs twice as much.
    old: bytes | None = txn.replace(key, record)
    if old is not None and len(old) > len(record) and len(old) > LARGE_RECORD_BYTES:
        # Where this transaction wrote the larger one, LMDB has kept all its pages for the smaller one, which wastes
        # them and makes the verifier of files call the store damaged.
        txn.delete(key)
        txn.put(key, record)
    return old is None


class RecentReplies:
    """Replies to GETs that were run beside writes, by key.

    A request of a pipeline takes 0.34 us instead of 0.63 where they serve. They are used inside write transactions
    only, where nobody else can write, and only as long as nobody has: LMDB numbers its transactions. When there are
    more than RECENT_REPLIES, all are forgotten.
    """

    def __init__(self) -> None:
        self._replies: dict[bytes, bytes] = {}
        self.as_of: int | None = None
        """The number of the last transaction, set once that has surely written: LMDB reuses one that wrote nothing."""

    def inside(self, txn: Any) -> dict[bytes, bytes]:
        """Return the replies that are right at the beginning of a write transaction; it must then keep them right."""
        if self.as_of != txn.id() - 1 or len(self._replies) > RECENT_REPLIES:
            self._replies.clear()
        self.as_of = None
        return self._replies
