"""What is done inside one LMDB transaction: commands or whole request lines in, results or reply lines out.

Also the form of a record. Transactions are disk.py's. Lines are run here for what parsing each into a command, and
handing each result back, would cost: 0.8 us of the 1.5 us that a GET in a pipeline takes.
"""

from collections.abc import Sequence
from typing import Any

import lmdb

from kvss_gevent.stores.base import Command, LinesDone, Result, StoreError
from kvss_gevent.wire import DEL, GET, GET_PREFIX, MAX_KEY_BYTES, OK_PREFIX, PUT, REPLY, VERSION, Status, parse_request

FORMAT_1 = b"\x01"
RECORD_HEADER = FORMAT_1 + bytes(8)
"""The format of a record, and 8 bytes for the time of its expiry, which format 1 does not use. The value follows."""

OK, CREATED, NO_CONTENT = REPLY[Status.OK], REPLY[Status.CREATED], REPLY[Status.NO_CONTENT]
NOT_FOUND = REPLY[Status.NOT_FOUND]

_HEADER_BYTES = len(RECORD_HEADER)
PUT_PREFIX = VERSION + b" PUT "
_PREFIX_BYTES = len(GET_PREFIX)


def run(txn: Any, batch: Sequence[Command], limit_bytes: int) -> list[Result]:
    """Run commands in order; stop early once the values fetched exceed limit_bytes."""
    get, replace = txn.get, txn.replace
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
            # It returns the value replaced; to put without overwriting first, and then with, costs twice as much.
            results.append(replace(key, RECORD_HEADER + value) is None)
        else:
            results.append(txn.delete(key))
    return results


def run_lines(  # noqa: PLR0912 - one loop: a call for each line would cost what this saves
    txn: Any, lines: Sequence[bytes], limit_bytes: int, *, writing: bool
) -> LinesDone:
    """Run the lines in front that are plain GETs and, where writing, PUTs and DELs; see LineStore."""
    get, replace = txn.get, txn.replace
    replies: list[bytes] = []
    append = replies.append
    left_bytes = limit_bytes
    puts = dels = 0
    for line in lines:
        if line.startswith(GET_PREFIX):
            try:
                record = get(line[_PREFIX_BYTES:])
            except lmdb.BadValsizeError:
                break  # an empty key
            if record is None:
                if len(line) > _PREFIX_BYTES + MAX_KEY_BYTES or b" " in line[_PREFIX_BYTES:]:
                    break  # no key of KV/1.0: only a miss need be looked at for that
                append(NOT_FOUND)
            elif record[:1] == FORMAT_1:
                append(OK_PREFIX + record[_HEADER_BYTES:])
                left_bytes -= len(record)
                if left_bytes < 0:
                    break
            else:
                break
        elif not writing:
            break
        elif line.startswith(PUT_PREFIX):
            key, _, value = line[_PREFIX_BYTES:].partition(b" ")
            if not value or not 0 < len(key) <= MAX_KEY_BYTES:
                break
            puts += 1
            append(CREATED if replace(key, RECORD_HEADER + value) is None else OK)
        else:
            verb, key, _ = parse_request(line)
            if verb is not DEL:
                break
            dels += 1
            append(NO_CONTENT if txn.delete(key) else NOT_FOUND)
    return replies, puts, dels
