"""Experiment 6: how long other clients wait while a handler computes for half a second."""

from collections.abc import Iterator

from kvss_gevent.compare.estimate import judge_all
from kvss_gevent.compare.experiments import Panel, Statement
from kvss_gevent.compare.measuring.contestant import named
from kvss_gevent.compare.measuring.experiment_context import ExperimentContext, asking
from kvss_gevent.compare.rows import Point
from kvss_gevent.compare.summary import Seen
from kvss_gevent.compare.words import milliseconds

TITLE = "One handler burns CPU for 500 ms"
VARIES = "clients that send BURN 500"
TEACHES = (
    "On a loop, a handler that computes stops the whole server: handlers must give control back. Threads and processes "
    "are interrupted by the kernel, so other clients are served, at the cost of switching."
)
BY_HAND = "kvss serve --lab & printf 'KV/1.0 BURN 500\\n' | nc -N 127.0.0.1 5050 & time kvss client GET a"
WITHOUT = {"sequential": "it serves one client at a time, and the one that burns is another"}
CORE = True
STORELESS = True
SCENE = "burn"
PANELS = (
    Panel(
        "max_us",
        "longest wait of another client, ms",
        kind="dots",
        at=1,
        scale=0.001,
        title="One handler that computes stops every loop, and no threads",
    ),
    Panel(
        "p50_us",
        "p50 of another client, ms",
        kind="dots",
        at=1,
        scale=0.001,
        title="Half of all requests wait for the one that computes",
    ),
)

BURN_MS, RATE, SECONDS = 500, 50.0, 0.8
"""The pace is so slow that threads can keep it beside a client that burns CPU: each request then takes 10 ms."""
HELD_US = BURN_MS * 800
"""The next request may be due 20 ms after the handler began."""

LOOPS = ("select", "asyncio", "protocol", "uvloop", "twisted", "trio", "gevent-plain", "gevent", "gevent+disk")
PREEMPTED = ("threads", "pool", "fork", "prefork")


def measure(context: ExperimentContext) -> Iterator[Point]:
    """Send 50 requests a second, alone and beside one client that burns CPU."""
    with context.serving("--lab") as server:
        for burning, seconds in ((0, SECONDS / 2), (1, SECONDS)):
            beside = [asking(server.port, b"KV/1.0 BURN %d" % BURN_MS, requests=1)] * burning
            point, _ = context.offer(server, burning, rate=RATE, users=1, seconds=seconds, beside=beside, drain_s=1.5)
            yield point


def findings(seen: Seen) -> Iterator[Statement]:
    """Say in which models clients wait for a handler that computes."""
    longest = {name: seen.get(name, 1, "max_us") for name in seen.contestants}
    loops = [name for name in LOOPS if name in longest]
    held = [name for name in loops if (wait := longest[name]) and wait.low > HELD_US]
    if loops:
        yield Statement(
            f"One BURN {BURN_MS} kept another client waiting as long on {named(held) or 'none of the loops'}.",
            judge_all((longest[name] for name in loops), lambda wait_us: wait_us > HELD_US),
            "a burning handler stops the loop models",
        )
    free = [name for name in PREEMPTED if name in longest]
    if free:
        worst = max((wait.median for name in free if (wait := longest[name])), default=0.0)
        yield Statement(
            f"On {named(free)} the longest wait was {milliseconds(worst)}.",
            judge_all((longest[name] for name in free), lambda wait_us: wait_us < BURN_MS * 500),
            "a burning handler does not stop threads and processes",
        )
