"""Experiment 18: one processor compared with two, if every request is half a millisecond of work."""

import os
from collections.abc import Iterator

from kvss_gevent.compare.experiments import Panel, Statement
from kvss_gevent.compare.measuring.contestant import FailedError, label_of, model_of
from kvss_gevent.compare.measuring.experiment_context import ExperimentContext
from kvss_gevent.compare.measuring.open_loop import offer
from kvss_gevent.compare.rows import Point
from kvss_gevent.compare.summary import Seen
from kvss_gevent.compare.words import listed

TITLE = "One processor and two"
VARIES = "processors that the server may use"
TEACHES = (
    "Threads of one interpreter take turns, so a second processor does not help them; passing the lock on may even "
    "cost time. Only processes compute at the same time. A loop uses more processors if it runs in several processes."
)
BY_HAND = "kvss serve --lab --workers 2 --store disk:kv.data & kvss load -H 127.0.0.1:5050 --headless -u 8 -t 5s"
CORE = False
WITHOUT = {"sequential": "it serves one client at a time, on whatever processor"}
PANELS = (
    Panel(
        "scaling",
        "times the rate of one processor",
        kind="dots",
        title="What a second processor gives: work of 0.5 ms in every request",
        log_x=False,
    ),
)

WORK = b"KV/1.0 BURN 0.5"
USERS = 8
BOTH = 2


def measure(context: ExperimentContext) -> Iterator[Point]:
    """Load the server as much as possible on one processor, then on two. The generator also uses the second one.

    For a request of half a millisecond, the generator is busy for a fiftieth of that time.
    """
    processors = sorted(context.cores.server | context.cores.generator)
    if len(processors) < BOTH:
        raise FailedError("it needs two processors")
    rates = []
    for number in (1, BOTH):
        allowed = frozenset(processors[:number])
        flags = ["--lab"]
        if context.contestant == "gevent+disk":
            flags += ["--workers", str(number)]
        if model_of(context.contestant) == "prefork":
            flags += ["--pool-size", str(number)]
        users = number if model_of(context.contestant) == "prefork" else USERS
        with context.serving(*flags, processors=allowed) as server:
            os.sched_setaffinity(0, processors[-1:])
            offered = offer(server.port, max(context.profile.seconds, 0.8), rate=None, users=users, line=WORK)
        if not offered.answered:
            raise FailedError("no request was answered")
        rates.append(offered.answered / offered.seconds)
    yield Point(BOTH, {"scaling": rates[1] / rates[0], "one_per_s": rates[0], "two_per_s": rates[1]})


def findings(seen: Seen) -> Iterator[Statement]:
    """Say which models gain from a second processor."""
    found = dict(seen.ranking("scaling", lowest_first=False))
    gains = [f"{label_of(name)} {one.median:.2f}" for name, one in found.items() if one.low > 1.3]
    none = [f"{label_of(name)} {one.median:.2f}" for name, one in found.items() if one.high < 1.15]
    yield Statement(
        f"Times the rate of one processor: {listed(gains) or 'nobody'} gained; {listed(none) or 'nobody'} did not."
    )
    for name, truth in (("threads", "threads of one interpreter gain nothing"), ("prefork", "processes use both")):
        if name in found:
            one = found[name]
            low, high = (one.high < 1.15, one.low >= 1.15) if name == "threads" else (one.low > 1.3, one.high <= 1.3)
            yield Statement(
                f"{label_of(name)} with two processors: {one.median:.2f} times.",
                True if low else False if high else None,
                truth,
            )
