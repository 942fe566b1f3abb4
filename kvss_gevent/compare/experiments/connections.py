"""Experiment 1: the server's highest rate, against the number of connections."""

from collections.abc import Iterator

from kvss_gevent.compare.experiments import Panel, Statement
from kvss_gevent.compare.measuring.contestant import CLIENTS, NULL, label_of
from kvss_gevent.compare.measuring.experiment_context import ExperimentContext
from kvss_gevent.compare.rows import Point
from kvss_gevent.compare.summary import Seen
from kvss_gevent.compare.words import listed, many

TITLE = "Throughput and latency against connections"
VARIES = "connections, each with one request under way"
TEACHES = (
    "A model is first of all how many clients it can serve at once, and then what each of them costs: a thread or a "
    "process for each client pays for switching, a loop does not, and a pool serves as many as it has places."
)
BY_HAND = "kvss bench 127.0.0.1:5050 --connections 256 --server-pid PID"
CORE = True
CALIBRATED = True
LIMIT_S = 120.0
PANELS = (
    Panel(
        "rate_per_s", "requests per second", title="More connections help until the server, or the generator, is full"
    ),
    Panel("p99_us", "p99, ms", scale=0.001, title="In a closed loop every connection more is one more in the queue"),
)

QUICK = (1, 32, 256)
FULL = (1, 2, 5, 10, 32, 100, 256, 500, 1000, 2000)

NULL_BAND = 0.8
"""A model that reaches this share of the null server's rate may be faster than the generator."""


def measure(context: ExperimentContext) -> Iterator[Point]:
    """Load one server as much as possible, with more and more connections."""
    with context.serving() as server:
        for connections in QUICK if context.profile.quick else FULL:
            point, _, _ = context.saturate(server, connections, context.load(connections))
            yield point


def findings(seen: Seen) -> Iterator[Statement]:
    """Say which models serve most, and which serve only some clients."""
    most = max(seen.xs())
    rates = seen.ranking("rate_per_s", at=most, lowest_first=False)
    whole = [(name, rate) for name, rate in rates if not seen.errors(name, most).get("starved connections")]
    null = seen.get(NULL, most, "rate_per_s") if seen.null else None
    banded = [name for name, rate in whole if null and rate.high > NULL_BAND * null.low and seen.limited(name, most)]
    if banded:
        yield Statement(
            f"With {most:,.0f} connections {listed(map(label_of, banded))} answered nearly as much as the null server "
            "can be asked for: the generator was what was measured, and they have no rank."
        )
    ranked = [(name, rate) for name, rate in whole if name not in banded]
    if ranked:
        yield Statement(
            f"With {most:,.0f} connections, requests per second of {'the others' if banded else 'those'} that served "
            "every client: " + listed(f"{label_of(name)} {rate.median:,.0f}" for name, rate in ranked) + "."
        )
    alone = [name for name, _ in rates if seen.errors(name, most).get("starved connections")]
    if alone:
        yield Statement(
            "Left clients without an answer at that number: "
            + listed(
                f"{label_of(name)} ({many(seen.errors(name, most)['starved connections'], 'client')})" for name in alone
            )
            + "."
        )
    if "sequential" in seen.contestants:
        served = most - seen.errors("sequential", most).get("starved connections", 0)
        yield Statement(
            f"sequential served {many(served, 'client')} of {most:,.0f}: the others wait until it leaves.",
            served == 1,
            "sequential serves one client",
        )
    if "pool" in seen.contestants and most > CLIENTS:
        served = most - seen.errors("pool", most).get("starved connections", 0)
        yield Statement(
            f"pool, with {CLIENTS} threads, served {many(served, 'client')} of {most:,.0f}.",
            served == CLIENTS,
            "pool levels at its size",
        )
