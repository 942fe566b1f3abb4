"""Offers requests to a server at a rate, with the users of the load tester but without Locust.

Users, schedules, verification of values and histograms are those of `kvss load`. A run needs no new process and starts
at once.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gevent

from kvss_gevent.compare.measuring.contestant import FailedError
from kvss_gevent.loadtest.engine import loops, preflight
from kvss_gevent.loadtest.engine.clock import clock
from kvss_gevent.loadtest.engine.histogram import Histogram
from kvss_gevent.loadtest.engine.load_connection import ConnectionLost
from kvss_gevent.loadtest.engine.load_run import NO_REPLY, Run
from kvss_gevent.loadtest.engine.messages import RunPlan, Update
from kvss_gevent.loadtest.engine.recorder import ERROR, HIT, LAG, MISS, RESPONSE, SERIES_INDEX
from kvss_gevent.loadtest.engine.request_stream import BURST, RequestStream
from kvss_gevent.loadtest.engine.virtual_user import VirtualUser
from kvss_gevent.loadtest.load_options import read_options
from kvss_gevent.loadtest.report.collector import Collector
from kvss_gevent.loadtest.workload.mix import Workload
from kvss_gevent.protocol.wire import REPLY, Status
from kvss_gevent.settings.fail import Fail

if TYPE_CHECKING:
    from kvss_gevent.loadtest.workload.mix import Step

KEYS = 1000
VALUE_BYTES = 64
GREETING = b"KV/1.0 STATS\n"
SERVED_S = 10.0
_GET_HIT, _GET_ERROR = SERIES_INDEX["GET", HIT], SERIES_INDEX["GET", ERROR]
_GOOD = (REPLY[Status.OK], REPLY[Status.CREATED])


@dataclass(slots=True)
class Offered:
    """The result: response times, from the intended start, of answered requests, and the number of others.

    seconds: the measured window. behind: requests that were due in it and not answered in it. ticks: (seconds since the
    begin of the window, response times of the requests answered in the 0.25 s before).
    """

    seconds: float
    response: Histogram
    lag: Histogram
    answered: int
    errors: dict[str, int]
    unanswered: int
    behind: int
    cpu_share: float
    ticks: list[tuple[float, Histogram]]

    @property
    def due(self) -> int:
        """How many requests were due."""
        return self.answered + sum(self.errors.values()) + self.unanswered


class Fixed:
    """Replaces RequestStream: it sends the same request line again and again, such as `KV/1.0 BURN 0.5`."""

    class ledger:
        """A ledger without keys."""

        floor = proven = deleted = ()

    first_new = 0
    """All keys count as new, so no reply is known in advance."""
    ahead = BURST

    def __init__(self, line: bytes) -> None:
        self._line = line + b"\n"

    def steps(self, size: int) -> list[Step]:
        """Return `size` steps."""
        return [(0, 0)] * size

    def burst(self) -> list[tuple[int, int, bytes]]:
        """Return a burst of steps."""
        return [(0, 0, b"")] * BURST

    def prepare(self, op: int, key: int) -> tuple[bytes, Any]:
        """Return the line and the expectation for its reply."""
        return self._line, (op, key, 0, 0, False, b"")

    def judge(self, _: Any, reply: bytes) -> tuple[int, str]:
        """Return the outcome of a reply: a hit if it is a success."""
        return (_GET_HIT, "") if reply in _GOOD else (_GET_ERROR, reply.decode(errors="replace"))


def offer(  # noqa: PLR0913 - two are positional, the others have names
    port: int,
    seconds: float,
    *,
    rate: float | None,
    users: int,
    line: bytes = b"",
    warmup_s: float = 0.2,
    drain_s: float = 0.5,
    shape: str = "",
    beside: Sequence[Callable[[], None]] = (),
    served: bool = False,
) -> Offered:
    """Offer `rate` requests a second over `users` connections (None: a closed loop); returns after the drain.

    line: sent instead of GETs and PUTs. shape: see shapes.py. beside: functions that run in greenlets from the begin of
    the window to its end. served: begin after every connection had a reply, because making a process for each can take
    longer than the warm-up. Raises FailedError if the server cannot be reached, stores no keys, or leaves a connection
    without that reply.
    """
    texts = {
        "rate": "" if rate is None else f"{rate:g}",
        "shape": shape,
        "keys": str(KEYS),
        "value_size": str(VALUE_BYTES),
        "mix": "80:20:0",
        "timeout": "30s",
        "drain": f"{drain_s:g}s",
    }
    options = read_options(texts)
    address = ("127.0.0.1", port)
    token = preflight.new_token()
    try:
        if not line:
            preflight.load_keys(address, options, options.value_size, token)
    except Fail as fail:
        raise FailedError(fail.cause) from None
    collector = Collector()
    ticks: list[tuple[float, Histogram]] = []

    def take(update: Update) -> None:
        collector.add("local", update)
        if run.recorder.begin <= clock():
            ticks.append((clock() - run.recorder.begin, update.tally.together(RESPONSE)))

    run = Run(options, RunPlan(token, users=users, loaded=not line), "local", take)
    crowd = [VirtualUser(run, address) for _ in range(users)]
    # The loop's clock stood still since the loop last turned, perhaps before the fork: the first timers would be short.
    gevent.get_hub().loop.update_now()
    if served:
        _have_served(crowd)
    greenlets = [gevent.spawn(_work, user, line) for user in crowd]
    begin = clock() + warmup_s
    company = [gevent.spawn_later(max(begin - clock(), 0), one) for one in beside]
    try:
        run.measure(begin, seconds, lambda: False)
    finally:
        gevent.killall([*greenlets, *company], timeout=1)
    gc.unfreeze()  # so that the objects of this run can be collected; the next run freezes again
    collector.finish()
    whole, at_end = collector.whole, run.summary()
    return Offered(
        at_end["measured_s"],
        whole.together(RESPONSE),
        whole.together(LAG),
        whole.requests((HIT, MISS)),
        {name: count for name, count in whole.failures.items() if name != NO_REPLY},
        whole.unanswered + whole.aborted + whole.unsent + whole.dropped,
        int(at_end["owed"]),
        at_end["cpu_share"],
        ticks,
    )


def _have_served(users: Sequence[VirtualUser]) -> None:
    """Return when each connection has had a reply. Raises FailedError if one has none within SERVED_S."""

    def ask(user: VirtualUser) -> bool:
        try:
            return (connection := user.connect()) is not None and bool(connection.exchange(GREETING))
        except ConnectionLost:
            return False

    asking = [gevent.spawn(ask, user) for user in users]
    gevent.joinall(asking, timeout=SERVED_S)
    gevent.killall(asking, timeout=1)
    if not all(one.value is True for one in asking):
        raise FailedError(f"not each of {len(users)} connections had a reply within {SERVED_S:g} s")


def _work(user: VirtualUser, line: bytes) -> None:
    """Run one user until the run is closed."""
    run = user.run
    user.depth = 1
    workload = Workload(run.options.mix, run.options.key_dist)
    stream: Any = Fixed(line) if line else RequestStream(workload, run.options.value_size, KEYS, user.rng, run.ledger)
    user.start()
    try:
        while not run.closed:
            if run.closing and user.queue is None:
                gevent.sleep(0.01)
            else:
                loops.work(user, stream)  # in an open loop, due requests are still sent during the drain
    finally:
        user.stop()
