"""Experiment 8: a store that blocks for 10 ms, like a database driver that does not know the event loop."""

from collections.abc import Iterator
from dataclasses import replace

from kvss_gevent.compare.experiments import Panel, Statement
from kvss_gevent.compare.measuring.contestant import named
from kvss_gevent.compare.measuring.experiment_context import ExperimentContext, asking
from kvss_gevent.compare.rows import Point
from kvss_gevent.compare.summary import Seen
from kvss_gevent.compare.words import milliseconds

TITLE = "A store that blocks for 10 ms"
VARIES = "clients whose requests each wait 10 ms in a blocking call (SLEEP 10)"
TEACHES = (
    "A blocking call stops a loop just like a call that computes, although the processor is idle. Threads and "
    "processes wait at the same time. A loop needs an asynchronous driver for the store, or a thread."
)
BY_HAND = (
    "kvss serve --lab & printf 'KV/1.0 SLEEP 10\\n%.0s' $(seq 300) | nc -N 127.0.0.1 5050 & kvss "
    "bench 127.0.0.1:5050 --connections 1 --seconds 2"
)
WITHOUT = {"sequential": "it serves one client at a time, and those that block are others"}
CORE = False
SCENE = "sleep"
PANELS = (
    Panel(
        "p50_us",
        "p50 of another client, microseconds",
        log_x=False,
        title="A call that blocks stops a loop as one that computes does",
    ),
    Panel(
        "slept_per_s",
        "blocking requests answered per second",
        log_x=False,
        log_y=False,
        title="Threads and processes wait side by side, a loop one after the other",
    ),
)

QUICK = (0, 1, 4)
FULL = (0, 1, 2, 4, 8)
BLOCK_MS, RATE = 10, 100.0
LOOPS = ("select", "asyncio", "protocol", "uvloop", "twisted", "trio", "gevent-plain", "gevent", "gevent+disk")
SIDE_BY_SIDE = ("threads", "pool", "fork", "prefork")


def measure(context: ExperimentContext) -> Iterator[Point]:
    """Send 100 requests a second beside more and more clients whose requests block."""
    seconds = max(context.profile.seconds, 1.0)
    with context.serving("--lab") as server:
        for blocked in QUICK if context.profile.quick else FULL:
            replies: list[float] = []
            beside = [asking(server.port, b"KV/1.0 SLEEP %d" % BLOCK_MS, replies)] * blocked
            point, _ = context.offer(server, blocked, rate=RATE, users=1, seconds=seconds, beside=beside)
            figures = {**point.figures, "slept_per_s": sum(at_s <= seconds for at_s in replies) / seconds}
            yield replace(point, figures=figures)


def findings(seen: Seen) -> Iterator[Statement]:
    """Say in which models all clients wait for the store, and in which they wait at the same time."""
    most = max(seen.xs())
    slept = {name: found for name in seen.contestants if (found := seen.get(name, most, "slept_per_s"))}
    alone = 1000 / BLOCK_MS
    loops = [name for name in LOOPS if name in slept]
    if loops:
        best = max(slept[name].median for name in loops)
        yield Statement(
            f"With {most:,.0f} clients that block, {named(loops)} answered {best:,.0f} of their requests per second "
            f"at the most: one after the other, {BLOCK_MS} ms each.",
            best <= alone * 1.05,
            "a blocking call stops the loop models",
        )
    free = [name for name in SIDE_BY_SIDE if name in slept]
    if free:
        worst = min(slept[name].median for name in free)
        waits = [found.median for name in free if (found := seen.get(name, most, "p50_us"))]
        yield Statement(
            f"{named(free)} answered {worst:,.0f} or more; others waited {milliseconds(max(waits))} at the median.",
            worst > alone * most * 0.6,
            "blocking calls run side by side on threads and processes",
        )
