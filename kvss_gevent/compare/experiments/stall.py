"""Experiment 3: a server that is stopped for a second, measured by a closed loop and by an open loop."""

import os
import signal
from collections.abc import Callable, Iterator

import gevent

from kvss_gevent.compare.experiments import Panel, Statement
from kvss_gevent.compare.measuring.contestant import label_of
from kvss_gevent.compare.measuring.experiment_context import ExperimentContext
from kvss_gevent.compare.rows import Point
from kvss_gevent.compare.summary import Seen
from kvss_gevent.compare.words import milliseconds
from kvss_gevent.measure.launch import Launched

TITLE = "The same stall seen by a closed and by an open loop"
VARIES = "percentile of the response times"
TEACHES = (
    "A closed loop sends nothing to a server that stands still, so it hardly counts the wait: coordinated omission. An "
    "open loop counts every request that was due meanwhile, from its due time on."
)
BY_HAND = (
    "(sleep 3; kill -STOP PID; sleep 1; kill -CONT PID) & locust -f loadtest/kvss_locust.py "
    "--headless -H 127.0.0.1:5050 -u 10 -r 100 -t 4s --kv-rate 1000 --only-summary"
)
CORE = False
ONLY = ("gevent", "threads", "asyncio")
PANELS = (
    Panel(
        "response_us",
        "response time, microseconds",
        log_x=False,
        even=True,
        title="A closed loop hardly counts a stall; an open loop counts all of it",
    ),
)

PERCENTILES = (50.0, 90.0, 99.0, 99.9, 100.0)
STALL_S, SECONDS, RATE, USERS = 1.0, 4.0, 1000.0, 10


def measure(context: ExperimentContext) -> Iterator[Point]:
    """Stop the server for a second in the middle of each loop."""
    with context.serving() as server:
        for case, rate in (("closed loop", None), ("open loop", RATE)):
            point, offered = context.offer(
                server, 0, rate=rate, users=USERS, seconds=SECONDS, beside=[stopping(server)], case=case
            )
            values = offered.response.percentiles(PERCENTILES)
            for percent, value_us in zip(PERCENTILES, values, strict=True):
                yield Point(percent, {"response_us": value_us}, point.errors, point.limited and rate is not None, case)


def stopping(server: Launched) -> Callable[[], None]:
    """Return a function that stops the server after a second, for STALL_S."""

    def stop() -> None:
        gevent.sleep(1.0)
        os.kill(server.pid, signal.SIGSTOP)
        try:
            gevent.sleep(STALL_S)
        finally:
            os.kill(server.pid, signal.SIGCONT)

    return stop


def findings(seen: Seen) -> Iterator[Statement]:
    """Say what each loop reports of the same second."""
    for name in seen.contestants:
        closed = seen.get(name, 99.0, "response_us", "closed loop")
        opened = seen.get(name, 99.0, "response_us", "open loop")
        if closed and opened:
            yield Statement(
                f"{label_of(name)} stood still for {STALL_S:g} of {SECONDS:g} seconds: the closed loop reports a p99 "
                f"of {milliseconds(closed.median)}, the open loop {milliseconds(opened.median)}.",
                closed.median < opened.median / 10 and opened.median > STALL_S * 0.8e6,
                f"an open loop shows the stall of {name}",
            )
