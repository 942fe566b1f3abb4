"""Experiment 16: threads and processes as remedies for a loop whose handlers compute or block, and their costs."""

import sys
from collections.abc import Iterator

from kvss_gevent.compare.experiments import Panel, Statement
from kvss_gevent.compare.measuring.contestant import label_of, serving
from kvss_gevent.compare.measuring.experiment_context import ExperimentContext, asking
from kvss_gevent.compare.measuring.open_loop import offer
from kvss_gevent.compare.rows import Point
from kvss_gevent.compare.summary import Seen
from kvss_gevent.compare.words import listed, milliseconds
from kvss_gevent.measure.process_usage import cpu_ns

TITLE = "Remedies for a loop whose handlers compute or block"
VARIES = "what runs the handler: 0 the loop, 1 a thread, 2 a process"
TEACHES = (
    "A thread helps if a call blocks. It does not help if a handler computes: its thread holds the interpreter's lock "
    "for a switch interval at a time. Then a process helps, because it has its own lock. Both cost time for every "
    "request that uses them, so use them only where they are needed."
)
BY_HAND = "python -m kvss_gevent.compare.measuring.remedy_server asyncio thread"
CORE = False
ONLY = ("asyncio", "gevent-plain")
LIMIT_S = 90.0
PANELS = (
    Panel(
        "p99_us",
        "p99 of another client, ms",
        title="A thread cures a handler that blocks, a process one that computes",
        scale=0.001,
        log_x=False,
    ),
    Panel(
        "detour_us",
        "CPU for an empty BURN, microseconds",
        title="What the detour costs, for every request that takes it",
        case="an empty request",
        log_x=False,
    ),
)

REMEDIES = ("place", "thread", "process")
NAMES = {"place": "in place", "thread": "on a thread", "process": "in a process"}
WORK = {"computes (BURN 50)": b"KV/1.0 BURN 50", "blocks (SLEEP 50)": b"KV/1.0 SLEEP 50"}
RATE, SECONDS = 50.0, 1.2


def measure(context: ExperimentContext) -> Iterator[Point]:
    """Send requests slowly beside a client whose requests compute or block; then send empty work at full speed."""
    framework = "gevent" if context.contestant == "gevent-plain" else "asyncio"
    for x, remedy in enumerate(REMEDIES):
        words = [sys.executable, "-m", "kvss_gevent.compare.measuring.remedy_server", framework, remedy]
        with serving(words, context.cores.server) as server:
            for case, line in WORK.items():
                point, _ = context.offer(
                    server,
                    x,
                    rate=RATE,
                    users=1,
                    seconds=SECONDS,
                    beside=[asking(server.port, line)],
                    case=case,
                    drain_s=1.0,
                )
                yield point
            before_ns = cpu_ns(server.pid)
            offered = offer(server.port, 0.5, rate=1000, users=4, line=b"KV/1.0 BURN 0")
            cost_us = (cpu_ns(server.pid) - before_ns) / 1000 / max(offered.due * 1.4, 1)  # plus 0.2 s of warm-up
            yield Point(x, {"detour_us": cost_us}, case="an empty request")


def findings(seen: Seen) -> Iterator[Statement]:
    """Say what each remedy helps against."""
    for name in seen.contestants:
        for case in WORK:
            waits = [seen.get(name, x, "p99_us", case) for x in range(len(REMEDIES))]
            shown = [
                f"{NAMES[remedy]} {milliseconds(wait.median)}"
                for remedy, wait in zip(REMEDIES, waits, strict=True)
                if wait
            ]
            yield Statement(f"{label_of(name)}, a handler that {case}: another client's p99 is {listed(shown)}.")
        in_place, on_thread = (seen.get(name, x, "p99_us", "blocks (SLEEP 50)") for x in (0, 1))
        if in_place and on_thread:
            cured, not_cured = on_thread.high < in_place.low / 3, on_thread.low >= in_place.high / 3
            yield Statement(
                f"On {label_of(name)} a thread cures a handler that blocks.",
                True if cured else False if not_cured else None,
                f"a thread cures a blocking handler of {name}",
            )
