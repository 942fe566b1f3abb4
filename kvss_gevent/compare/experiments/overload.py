"""Experiment 14: 150 % of the server's maximum for two seconds, and the time until it has recovered."""

import statistics
from collections.abc import Iterator

from kvss_gevent.compare.experiments import Panel, Statement
from kvss_gevent.compare.measuring.contestant import FailedError, label_of
from kvss_gevent.compare.measuring.experiment_context import ExperimentContext
from kvss_gevent.compare.measuring.open_loop import offer
from kvss_gevent.compare.rows import Point
from kvss_gevent.compare.summary import Seen
from kvss_gevent.compare.words import listed
from kvss_gevent.loadtest.engine.load_run import TICK_S
from kvss_gevent.measure.load import BUSY_SHARE

TITLE = "Overload to 150 % and back"
VARIES = "seconds; from the first to the third, 150 % of what the server can do are due, before and after 50 %"
TEACHES = (
    "Requests that the server cannot handle in time become a queue. The server can reduce the queue only with its "
    "spare time: after two seconds of 150 %, it needs two seconds at half load."
)
BY_HAND = (
    "locust -f loadtest/kvss_locust.py --headless -H 127.0.0.1:5050 -u 8 -r 100 --kv-rate 1000 "
    "--kv-shape spike:10000,30000:10s --only-summary"
)
CORE = False
LIMIT_S = 60.0
PANELS = (
    Panel(
        "p99_us",
        "p99 of requests answered then, ms",
        scale=0.001,
        log_x=False,
        title="Too much for two seconds: a queue, and the time until it is gone",
    ),
    Panel(
        "recover_s",
        "seconds until well again",
        kind="dots",
        case="recovery",
        log_x=False,
        title="How long an overload is felt",
    ),
)

WORK = b"KV/1.0 BURN 0.5"
"""Each request computes for half a millisecond, so that the generator can send more than the server can do."""
USERS = 8
STEP_S = 1.0
LOW, HIGH = 0.5, 1.5
WELL = 10.0
"""The server has recovered if p99 is below this multiple of the usual p99: with a queue it is hundreds, on a busy
machine a few."""


def measure(context: ExperimentContext) -> Iterator[Point]:
    """Find the server's maximum, then offer 50 %, 150 % and 50 % of it."""
    users = 1 if context.contestant == "sequential" else USERS
    with context.serving("--lab") as server:
        most = offer(server.port, 1.0, rate=None, users=users, line=WORK)
        if not most.answered:
            raise FailedError("no request was answered")
        able = most.answered / most.seconds
        low, high = able * LOW, able * HIGH
        rates = ",".join(f"{rate:.0f}" for rate in (low, high, high, low, low, low, low))
        shape = f"steps:{rates}:{STEP_S:g}s"
        offered = offer(server.port, 7 * STEP_S, rate=able, users=users, line=WORK, shape=shape, drain_s=5.0)
        limited = offered.cpu_share > BUSY_SHARE
        errors = {**offered.errors, **({"unanswered requests": offered.unanswered} if offered.unanswered else {})}
        before = [answers.percentile(99) for at_s, answers in offered.ticks if 0.3 < at_s < STEP_S and answers.counts]
        well_again_s: float | None = None
        for number, (at_s, answers) in enumerate(offered.ticks):
            if answers.counts and at_s <= 7 * STEP_S + 1:
                p99_us = answers.percentile(99)
                yield Point(number * TICK_S, {"p99_us": p99_us}, errors, limited)
                well = before and p99_us <= WELL * statistics.median(before)
                if well and at_s > 3 * STEP_S + TICK_S and well_again_s is None:
                    well_again_s = at_s - 3 * STEP_S
        if well_again_s is None:
            raise FailedError("it was not well again within four seconds")
        yield Point(0, {"recover_s": well_again_s, "able_per_s": able}, errors, limited, "recovery")


def findings(seen: Seen) -> Iterator[Statement]:
    """Say how long each model took to recover."""
    recovered = {name: found for name in seen.contestants if (found := seen.get(name, 0, "recover_s", "recovery"))}
    if recovered:
        order = sorted(recovered, key=lambda name: recovered[name].median)
        theory = 2 * (HIGH - 1) / (1 - LOW) * STEP_S
        yield Statement(
            "After two seconds of 150 % it took "
            + listed(f"{label_of(name)} {recovered[name].median:.1f} s" for name in order)
            + f" to be well again; a queue that is worked off at half load takes {theory:.1f} s.",
            all(theory / 3 < recovered[name].median < theory * 2 for name in order),
            "an overload is followed by its queue",
        )
