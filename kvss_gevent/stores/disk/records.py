"""What is done inside one LMDB transaction: commands or whole request lines in, results or reply lines out.

Also the form of a record. Transactions are disk.py's. Lines are run here for what parsing each into a command, and
handing each result back, would cost: 0.8 us of the 1.5 us that a GET in a pipeline takes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import lmdb

from kvss_gevent.protocol.wire import (
    DEL,
    GET,
    GET_PREFIX,
    MAX_KEY_BYTES,
    OK_PREFIX,
    PUT,
    REPLY,
    VERSION,
    Status,
    parse_request,
)
from kvss_gevent.stores.base import Command, LinesDone, Result, StoreError

FORMAT_1 = b"\x01"
RECORD_HEADER = FORMAT_1 + bytes(8)
"""The format of a record, and 8 bytes for the time of its expiry, which format 1 does not use. The value follows."""

OK, CREATED, NO_CONTENT = REPLY[Status.OK], REPLY[Status.CREATED], REPLY[Status.NO_CONTENT]
NOT_FOUND = REPLY[Status.NOT_FOUND]

_HEADER_BYTES = len(RECORD_HEADER)
PUT_PREFIX = VERSION + b" PUT "
_PREFIX_BYTES = len(GET_PREFIX)

LARGE_RECORD_BYTES = 1000
"""No smaller one has pages of its own."""

RECENT_REPLIES = 16384
RECENT_REPLY_BYTES = 1024
"""The longest reply that is remembered: all of them take 5 MiB with values of 64 bytes, and 26 MiB at most."""


def run(txn: Any, batch: Sequence[Command], limit_bytes: int) -> list[Result]:
    """Run commands in order; stop early once the values fetched exceed limit_bytes."""
    get = txn.get
    results: list[Result] = []
    fetched = 0
    for verb, key, value in batch:
        if verb is GET:
            record = get(key)
            if record is None:
                results.append(None)
            elif record[:1] == FORMAT_1:
                results.append(record[_HEADER_BYTES:])
                fetched += len(record)
                if fetched > limit_bytes:
                    break
            else:
                results.append(StoreError("a record was written by a newer version of kvss-gevent, or is damaged"))
        elif verb is PUT:
            results.append(_replace(txn, key, RECORD_HEADER + value))
        else:
            results.append(txn.delete(key))
    return results


def read_lines(txn: Any, lines: Sequence[bytes], limit_bytes: int) -> list[bytes]:
    """Return the replies to the plain GETs in front; see LineStore."""
    get = txn.get
    replies: list[bytes] = []
    left_bytes = limit_bytes
    for line in lines:
        reply = _read(get, line) if line.startswith(GET_PREFIX) else None
        if reply is None:
            break
        replies.append(reply)
        left_bytes -= len(reply)
        if left_bytes < 0:
            break
    return replies


def run_lines(  # noqa: PLR0912 - one loop: a call for each line would cost what this saves
    txn: Any, lines: Sequence[bytes], limit_bytes: int, recent: dict[bytes, bytes]
) -> LinesDone:
    """Run the lines in front that are plain GETs, PUTs and DELs; see LineStore, and RecentReplies for `recent`."""
    get, put = txn.get, txn.put
    if len(recent) > RECENT_REPLIES:
        recent.clear()
    remembered = recent.get
    replies: list[bytes] = []
    append = replies.append
    left_bytes = limit_bytes
    puts = dels = 0
    for line in lines:
        head = line[:_PREFIX_BYTES]
        if head == GET_PREFIX:
            reply = remembered(line)
            if reply is None:
                reply = _read(get, line)
                if reply is None:
                    break
                if len(reply) <= RECENT_REPLY_BYTES and reply is not NOT_FOUND:
                    recent[line] = reply
            append(reply)
            left_bytes -= len(reply)
            if left_bytes < 0:
                break
        elif head == PUT_PREFIX:
            key, _, value = line[_PREFIX_BYTES:].partition(b" ")
            if not value or not 0 < len(key) <= MAX_KEY_BYTES:
                break
            puts += 1
            if recent.pop(get_line := GET_PREFIX + key, None) is None:
                append(CREATED if _replace(txn, key, RECORD_HEADER + value) else OK)
                continue
            put(key, RECORD_HEADER + value)
            append(OK)
            if len(value) < RECENT_REPLY_BYTES - len(OK_PREFIX):
                recent[get_line] = OK_PREFIX + value
        else:
            verb, key, _ = parse_request(line)
            if verb is not DEL:
                break
            dels += 1
            recent.pop(GET_PREFIX + key, None)
            append(NO_CONTENT if txn.delete(key) else NOT_FOUND)
    return replies, puts, dels


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


def _read(get: Callable[[bytes], bytes | None], line: bytes) -> bytes | None:
    """Return the reply to a line that begins as a GET, or None where it is no GET or its record cannot be read."""
    try:
        record = get(line[_PREFIX_BYTES:])
    except lmdb.BadValsizeError:
        return None  # an empty key
    if record is None:
        # Only a miss need be looked at for this: no key of KV/1.0.
        return None if len(line) > _PREFIX_BYTES + MAX_KEY_BYTES or b" " in line[_PREFIX_BYTES:] else NOT_FOUND
    return OK_PREFIX + record[_HEADER_BYTES:] if record[:1] == FORMAT_1 else None


class RecentReplies:
    """Replies to GETs that were run beside writes, from request line to reply line.

    A request of a pipeline takes 0.34 us instead of 0.63 where they serve. They are used inside write transactions
    only, where nobody else can write, and only as long as nobody has: LMDB numbers its transactions. When there are
    more than RECENT_REPLIES, all are forgotten.
    """

    def __init__(self) -> None:
        self._replies: dict[bytes, bytes] = {}
        self._as_of: int | None = None

    def inside(self, txn: Any) -> dict[bytes, bytes]:
        """Return the replies that are right at the beginning of a write transaction; it must then keep them right."""
        if self._as_of != txn.id() - 1:
            self._replies.clear()
        self._as_of = None
        return self._replies

    def committed(self, txn_id: int) -> None:
        """Note that this transaction has surely written: one that has not gives its number to the next, of anybody."""
        self._as_of = txn_id
