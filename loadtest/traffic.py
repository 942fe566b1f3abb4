"""One user's requests: from steps of a workload to request lines, and from reply lines to outcomes. No socket, no time.

Rule numbers are those of docs/protocol.md.
"""

from random import Random
from typing import TYPE_CHECKING

from kvss_gevent.wire import GET_PREFIX, OK_PREFIX, REPLY, VERSION, Status
from loadtest.recorder import ERROR, HIT, MISS, SERIES_INDEX
from loadtest.values import Ledger, filler, key_bytes, make_value
from loadtest.workload import Op, Sizes, Step, Workload, batches, size_chooser

if TYPE_CHECKING:
    from collections.abc import Callable

NOT_KV = "reply is not KV/1.0"

GET_HIT = SERIES_INDEX["GET", HIT]
GET_MISS = SERIES_INDEX["GET", MISS]
GET_ERROR = SERIES_INDEX["GET", ERROR]
PUT_HIT = SERIES_INDEX["PUT", HIT]
PUT_ERROR = SERIES_INDEX["PUT", ERROR]
DEL_HIT = SERIES_INDEX["DEL", HIT]
DEL_MISS = SERIES_INDEX["DEL", MISS]
DEL_ERROR = SERIES_INDEX["DEL", ERROR]
RMW_HIT = SERIES_INDEX["RMW", HIT]
RMW_ERROR = SERIES_INDEX["RMW", ERROR]

_GET, _PUT, _DEL, _INSERT = int(Op.GET), int(Op.PUT), int(Op.DEL), int(Op.INSERT)
_ERRORS = {_GET: GET_ERROR, _PUT: PUT_ERROR, _DEL: DEL_ERROR, _INSERT: PUT_ERROR}
_OK = REPLY[Status.OK]
_CREATED = REPLY[Status.CREATED]
_NO_CONTENT = REPLY[Status.NO_CONTENT]
_NOT_FOUND = REPLY[Status.NOT_FOUND]
_WITHOUT_EFFECT = (REPLY[Status.BAD_REQUEST], REPLY[Status.UPGRADE_REQUIRED])
_GET_LINE = GET_PREFIX + b"user%d\n"
_PUT_PREFIX = VERSION + b" PUT "
_DEL_PREFIX = VERSION + b" DEL "

Ticket = tuple[int, int, int, int, bool, bytes]
"""What a reply is judged by: Op, key number, floor; version of a write; whether a DEL may find the key deleted before;
the reply that a GET of what a PUT writes will have."""

Verdict = tuple[int, str]
"""An index into recorder.SERIES, and the name of the failure or nothing."""

_GOOD_GET: Verdict = (GET_HIT, "")


class Traffic:
    """Draws steps, builds lines, judges replies. A ledger shared by the process's users tells what reads may return."""

    __slots__ = ("_batch", "_first_new", "_size", "_steps", "ledger", "verify")

    def __init__(self, workload: Workload, sizes: Sizes, key_count: int, rng: Random, ledger: Ledger) -> None:
        self.ledger = ledger
        self.verify = ledger.verifies
        self._batch: Callable[[int], list[Step]] = batches(workload, key_count, rng, ledger.newest)
        self._size = size_chooser(sizes, rng)
        self._first_new = key_count
        self._steps: list[Step] = []

    def steps(self, size: int) -> list[Step]:
        """Return the next `size` steps of the user's stream."""
        return self._batch(size)

    def prepare(self, op: int, key: int) -> tuple[bytes, Ticket]:
        """Return the request line of a step and the ticket for its reply; a write is noted in the ledger as begun."""
        ledger = self.ledger
        if op == _GET:
            if key >= self._first_new:
                # Inserted keys of other processes may not be there yet: ask for this process's nearest.
                key -= (key - ledger.worker) % ledger.share
            return _GET_LINE % key, (_GET, key, ledger.floor[key], 0, False, b"")
        key = ledger.grow() if op == _INSERT else ledger.own(key)
        name = key_bytes(key)
        if op == _DEL:
            gone = ledger.deleted[key] > ledger.floor[key]
            version, floor = ledger.begin(key, delete=True)
            return b"%s%s\n" % (_DEL_PREFIX, name), (_DEL, key, floor, version, gone, b"")
        version, floor = ledger.begin(key)
        if not self.verify:
            return b"%s%s %s\n" % (_PUT_PREFIX, name, filler(self._size())), (op, key, floor, version, False, b"")
        value = make_value(name, ledger.writer, version, floor, self._size())
        return b"%s%s %s\n" % (_PUT_PREFIX, name, value), (op, key, floor, version, False, OK_PREFIX + value)

    def judge(self, ticket: Ticket, reply: bytes) -> Verdict:
        """Return the outcome of a reply; an answered write is noted in the ledger as ended."""
        op, key, floor, version, gone, readback = ticket
        ledger = self.ledger
        if op == _GET:
            if reply == ledger.proven[key] and ledger.proven_version[key] > floor:
                return _GOOD_GET  # Proven before, byte for byte, and not superseded: 0.1 us instead of 1.
            if reply.startswith(OK_PREFIX):
                wrong = ledger.judge(key, floor, reply) if self.verify else ""
                return (GET_ERROR, wrong) if wrong else _GOOD_GET
            if reply == _NOT_FOUND:
                wrong = ledger.missing(key, floor) if self.verify else ""
                return (GET_ERROR, wrong) if wrong else (GET_MISS, "")
        elif op == _DEL:
            if reply == _NO_CONTENT:
                ledger.end(key, floor)
                return DEL_HIT, ""
            if reply == _NOT_FOUND:
                wrong = ledger.missing_deleted(key, version, gone) if self.verify else ""
                ledger.end(key, floor)
                return (DEL_ERROR, wrong) if wrong else (DEL_MISS, "")
        elif reply in (_OK, _CREATED):
            ledger.end(key, floor)
            ledger.remember(key, version, readback)
            if op == _INSERT:
                ledger.inserting.discard(key)
            return PUT_HIT, ""
        if reply in _WITHOUT_EFFECT:
            # Rule 10: only these say that a write had no effect.
            if op != _GET:
                ledger.refused(key)
            return _ERRORS[op], reply.decode()
        return _ERRORS[op], reply.decode() if reply in REPLY.values() else NOT_KV

    def lost(self, ticket: Ticket) -> int:
        """Return the series that counts a request which got no reply; whether a write took effect stays unknown."""
        return _ERRORS[ticket[0]]
