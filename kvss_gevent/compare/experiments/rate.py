"""Experiment 2: how long clients wait at different shares of a server's maximum, if requests compute."""

from collections.abc import Iterator
from dataclasses import replace

from kvss_gevent.compare.estimate import judge
from kvss_gevent.compare.experiments import Panel, Statement
from kvss_gevent.compare.measuring.contestant import FailedError, label_of
from kvss_gevent.compare.measuring.experiment_context import ExperimentContext
from kvss_gevent.compare.measuring.open_loop import offer
from kvss_gevent.compare.rows import Point
from kvss_gevent.compare.summary import Seen
from kvss_gevent.compare.words import listed, milliseconds

TITLE = "The knee: response time against the share of a server's maximum"
VARIES = "offered rate, as a share of the most that this server answers"
TEACHES = (
    "Response time stays short until a server has hardly any time to spare, and then it has no bound: its curve looks "
    "like a hockey stick. Past the maximum the queue grows as long as the load lasts, and so does the wait."
)
BY_HAND = (
    "kvss serve --lab & kvss load -H 127.0.0.1:5050 --headless -u 32 -r 100 -t 5s --kv-rate 3000 "
    "--kv-mix 80:20:0 --only-summary"
)
CORE = True
STORELESS = True
LIMIT_S = 120.0

WORK = b"KV/1.0 BURN 0.2"
"""Each request computes for 0.2 ms, so that the generator needs very little CPU compared with the server."""

SHARES = (0.5, 0.8, 0.9, 1.0, 1.1)
BELOW, ABOVE = 0.8, 1.1
QUEUE = 3.0
"""With a queue, p99 is at least this multiple of the p99 below the maximum."""

PANELS = (
    Panel(
        "p99_us",
        "p99, ms",
        title="Every model has a knee: p99 against the share of its own maximum",
        scale=0.001,
        log_x=False,
    ),
    Panel(
        "p50_us",
        "p50, ms",
        title="Half of all requests wait, too, once the server is past it",
        scale=0.001,
        log_x=False,
    ),
    Panel(
        "answered_share",
        "answered in time, share of what was due",
        title="Past the maximum not everything is answered in time",
        log_x=False,
        log_y=False,
    ),
)


def measure(context: ExperimentContext) -> Iterator[Point]:
    """Find the server's maximum, then offer shares of it."""
    seconds = context.profile.seconds
    with context.serving("--lab") as server:
        most = offer(server.port, seconds, rate=None, users=context.places, line=WORK, served=True)
        if not most.answered:
            raise FailedError("no request was answered")
        able = most.answered / most.seconds
        for share in SHARES:
            point, offered = context.offer(
                server,
                share,
                rate=share * able,
                users=context.places,
                line=WORK,
                seconds=seconds,
                drain_s=1.5,
                served=True,
            )
            figures = {
                **point.figures,
                "able_per_s": able,
                "answered_share": point.figures["answered_per_s"] / max(point.figures["offered_per_s"], 1e-9),
            }
            # Past its maximum a server always leaves requests unanswered: this is the result, and not an error.
            late = {} if share >= 1 else point.errors
            yield replace(point, figures=figures, errors=late, limited=point.limited and offered.cpu_share > 0.9)


def findings(seen: Seen) -> Iterator[Statement]:
    """Say what the maxima are, and whether clients wait longer past them."""
    able = dict(seen.ranking("able_per_s", at=SHARES[0], lowest_first=False))
    if able:
        yield Statement(
            "With 0.2 ms of work in each request the most were "
            + listed(f"{label_of(name)} {found.median:,.0f}/s" for name, found in able.items())
            + "."
        )
    for name in seen.contestants:
        below, past = seen.get(name, BELOW, "p99_us"), seen.get(name, ABOVE, "p99_us")
        if below and past:
            growth = judge(past, lambda value, low=below.high: value > QUEUE * low)  # type: ignore[misc]
            yield Statement(
                f"{label_of(name)}: p99 {milliseconds(below.median)} at {BELOW:g} of its maximum, "
                f"{milliseconds(past.median)} at {ABOVE:g}.",
                growth,
                f"{name} has a knee",
            )
