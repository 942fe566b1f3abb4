"""Experiment 2: how long clients wait at a given rate, up to past what the server can do."""

from collections.abc import Iterator, Mapping

from kvss_gevent.compare.experiments import Finding, Panel
from kvss_gevent.compare.measuring.contestant import CLIENTS_OF_A_POOL
from kvss_gevent.compare.measuring.experiment_context import Workbench
from kvss_gevent.compare.report.summary import Seen
from kvss_gevent.compare.rows import Point
from kvss_gevent.compare.words import listed, milliseconds

TITLE = "Response time against offered rate"
VARIES = "requests per second offered, on 32 connections, whatever the server does"
TEACHES = (
    "Response time stays flat until the server has nearly no time to spare, and then has no bound: the hockey stick. "
    "Capacity planning is about staying left of the knee, and a closed loop never shows it."
)
BY_HAND = (
    "locust -f loadtest/kvss_locust.py --headless -H 127.0.0.1:5050 -u 32 -r 100 -t 5s --kv-rate "
    "8000 --kv-mix 80:20:0 --only-summary"
)
CORE = True
LIMIT_S = 120.0
PANELS = (
    Panel("p50_us", "response time p50, microseconds"),
    Panel("p99_us", "response time p99, microseconds"),
    Panel("answered_per_s", "answered per second"),
)

QUICK = (4000, 8000, 16000, 32000)
FULL = (1000, 2000, 4000, 5600, 8000, 11000, 16000, 22000, 32000, 45000, 64000)
KEPT_UP = 0.95
"""Of what is offered: a server that answers less is past its knee."""


def measure(bench: Workbench) -> Iterator[Point]:
    """Offer more and more, and one rate more after the server or the generator could not keep up."""
    fallen_behind = False
    with bench.serving() as server:
        for rate in QUICK if bench.profile.quick else FULL:
            seconds = bench.profile.seconds * (0.8 if bench.profile.quick else 1)
            point, _ = bench.offer(server, rate, rate=rate, users=CLIENTS_OF_A_POOL, seconds=seconds)
            yield point
            if fallen_behind:
                return
            fallen_behind = point.limited or not keeps_up(point.figures)


def keeps_up(figures: Mapping[str, float]) -> bool:
    """Tell whether nearly all that was due was answered."""
    return figures["answered_per_s"] >= KEPT_UP * figures["offered_per_s"]


def knee(seen: Seen, name: str) -> float:
    """Return the highest rate that a contestant answered nearly in full, 0 where there is none."""
    kept = 0.0
    for rate in seen.xs(name):
        offered, answered = seen.get(name, rate, "offered_per_s"), seen.get(name, rate, "answered_per_s")
        if offered and answered and answered.median >= KEPT_UP * offered.median:
            kept = rate
    return kept


def findings(seen: Seen) -> Iterator[Finding]:
    """Up to which rate each keeps up, and what clients wait at a rate that most can do."""
    knees = {name: knee(seen, name) for name in seen.contestants}
    served = {name: rate for name, rate in knees.items() if rate}
    if not served:
        return
    best, worst = max(served.values()), min(served.values())
    capped = [name for name in served if any(seen.limited(name, rate) for rate in seen.xs(name))]
    yield Finding(
        f"Up to {best:,.0f} requests per second were answered in full by "
        + listed(name for name, rate in served.items() if rate == best)
        + (
            f"; {listed(name for name, rate in served.items() if rate == worst)} kept up to {worst:,.0f} only."
            if worst < best
            else "."
        )
        + (" Where points are hollow the generator, not the server, was at its end." if capped else "")
    )
    waits = seen.ranking("p99_us", at=worst)
    waits = [(name, wait) for name, wait in waits if name in served]
    if len(waits) > 1:
        (quick, least), (slow, longest) = waits[0], waits[-1]
        yield Finding(
            f"At {worst:,.0f} per second one request in a hundred waited {milliseconds(least.median)} with {quick} and "
            f"{milliseconds(longest.median)} with {slow}."
        )
