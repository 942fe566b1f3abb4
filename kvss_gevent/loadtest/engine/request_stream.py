"""One user's requests: makes request lines from the steps of a workload, and judges reply lines. It uses no sockets.

Rule numbers are those of docs/protocol.md.
"""

from collections.abc import Iterable
from random import Random
from typing import TYPE_CHECKING

from kvss_gevent.loadtest.engine.recorder import ERROR, HIT, MISS, SERIES_INDEX
from kvss_gevent.loadtest.workload.mix import Op, Sizes, Step, Workload, batches, size_chooser
from kvss_gevent.loadtest.workload.proving_values import Ledger, filler, key_bytes, make_value
from kvss_gevent.protocol.wire import GET_PREFIX, OK_PREFIX, REPLY, VERSION, Status

if TYPE_CHECKING:
    from collections.abc import Callable

NOT_KV = "reply is not KV/1.0"
NOT_AN_ANSWER = "reply does not answer this command"

BURST = 64
"""Requests between two checks whether the user must stop; Locust switches greenlets as often."""

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
ERRORS = {_GET: GET_ERROR, _PUT: PUT_ERROR, _DEL: DEL_ERROR, _INSERT: PUT_ERROR}
"""The series that counts failed requests of an Op. It is unknown whether a write without a reply took effect."""

_STORED = (REPLY[Status.OK], REPLY[Status.CREATED])
_NO_CONTENT = REPLY[Status.NO_CONTENT]
NOT_FOUND = REPLY[Status.NOT_FOUND]
_WITHOUT_EFFECT = (REPLY[Status.BAD_REQUEST], REPLY[Status.UPGRADE_REQUIRED])
_REFUSALS = tuple(reply for status, reply in REPLY.items() if status.value >= 400 and status is not Status.NOT_FOUND)
_GET_LINE = GET_PREFIX + b"user%d\n"
_PUT_LINE = VERSION + b" PUT user%d %s\n"
_DEL_LINE = VERSION + b" DEL user%d\n"

Expectation = tuple[int, int, int, int, bool, bytes]
"""What a reply is compared with: Op, key number, floor; version of a write; whether a DEL's key may be deleted already;
the reply to a GET of the value that a PUT writes."""

Outcome = tuple[int, str]
"""An index into recorder.SERIES, and the name of the failure, "" for none."""

_GET_HIT: Outcome = (GET_HIT, "")
_GET_MISS: Outcome = (GET_MISS, "")
_PUT_HIT: Outcome = (PUT_HIT, "")
_DEL_HIT: Outcome = (DEL_HIT, "")


class RequestStream:
    """Draws steps, builds lines, and judges replies with the ledger, which all users of the process share."""

    __slots__ = ("_batch", "_put_line", "_size", "ahead", "first_new", "ledger", "verify")

    def __init__(  # noqa: PLR0913, PLR0917 - what a stream depends on
        self, workload: Workload, sizes: Sizes, key_count: int, rng: Random, ledger: Ledger, ttl_s: int = 0
    ) -> None:
        self.ledger = ledger
        self.verify = ledger.verifies
        # Steps can be drawn long before they are due, except for `latest`, whose keys depend on the newest key then.
        self.ahead = 1 if workload.distribution.kind == "latest" else BURST
        self._batch: Callable[[int], tuple[list[int], list[int]]] = batches(workload, key_count, rng, ledger.newest)
        self._size = size_chooser(sizes, rng)
        self._put_line = VERSION + b" PUTEX %d user%%d %%s\n" % ttl_s if ttl_s else _PUT_LINE
        self.first_new = key_count

    def steps(self, size: int) -> list[Step]:
        """Return the next `size` steps of the user's stream."""
        return list(zip(*self._batch(size), strict=True))

    def burst(self) -> Iterable[tuple[int, int, bytes]]:
        """Return the next steps of the user's stream: Op, key number, and the line of a GET of that key."""
        ops, keys = self._batch(BURST)
        return zip(ops, keys, [_GET_LINE % key for key in keys], strict=True)

    def prepare(self, op: int, key: int) -> tuple[bytes, Expectation]:
        """Return the request line of a step and the expectation for its reply; a write is noted in the ledger."""
        ledger = self.ledger
        if op == _GET:
            if key >= self.first_new:
                # Keys that other processes insert may not exist yet, so the nearest key of this process is used.
                key -= (key - ledger.worker) % ledger.share
            return _GET_LINE % key, (_GET, key, ledger.floor[key], 0, False, b"")
        key = ledger.grow() if op == _INSERT else ledger.own(key)
        if op == _DEL:
            gone = ledger.deleted[key] > ledger.floor[key]
            version, floor = ledger.begin(key, delete=True)
            return _DEL_LINE % key, (_DEL, key, floor, version, gone, b"")
        version, floor = ledger.begin(key)
        if not self.verify:
            return self._put_line % (key, filler(self._size())), (op, key, floor, version, False, b"")
        value = make_value(key_bytes(key), ledger.writer, version, floor, self._size())
        return self._put_line % (key, value), (op, key, floor, version, False, OK_PREFIX + value)

    def judge(self, expectation: Expectation, reply: bytes) -> Outcome:
        """Return the outcome of a reply; an answered write is noted in the ledger as ended."""
        op, key, floor, version, gone, readback = expectation
        if op == _GET:
            return self.judge_read(key, floor, reply)
        ledger = self.ledger
        if op == _DEL:
            if reply == _NO_CONTENT:
                ledger.end(key, floor)
                return _DEL_HIT
            if reply == NOT_FOUND:
                wrong = ledger.missing_deleted(key, version, gone) if self.verify else ""
                ledger.end(key, floor)
                return (DEL_ERROR, wrong) if wrong else (DEL_MISS, "")
        elif reply in _STORED:
            ledger.stored(key, version, floor, readback)
            if op == _INSERT:
                ledger.inserting.discard(key)
            return _PUT_HIT
        if reply in _WITHOUT_EFFECT:
            ledger.refused(key)  # Rule 10: only these say that a write had no effect.
        return _refused(op, reply)

    def judge_read(self, key: int, floor: int, reply: bytes) -> Outcome:
        """Return the outcome of a GET's reply; floor is the key's floor when the GET was sent."""
        ledger = self.ledger
        if hash(reply) == ledger.proven[key]:
            return _GET_HIT
        if reply == NOT_FOUND:
            wrong = ledger.missing(key, floor) if self.verify else ""
            return (GET_ERROR, wrong) if wrong else _GET_MISS
        if reply.startswith(OK_PREFIX):
            wrong = ledger.judge(key, floor, reply) if self.verify else ""
            return (GET_ERROR, wrong) if wrong else _GET_HIT
        return _refused(_GET, reply)


def _refused(op: int, reply: bytes) -> Outcome:
    if reply in _REFUSALS:
        return ERRORS[op], reply.decode()
    if reply in REPLY.values() or reply.startswith(OK_PREFIX):
        return ERRORS[op], NOT_AN_ANSWER
    return ERRORS[op], NOT_KV
