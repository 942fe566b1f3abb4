"""Experiment 11: whether connections get equal shares, alone and beside three connections with long pipelines."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace

from kvss_gevent.compare.experiments import Panel, Statement
from kvss_gevent.compare.measuring.contestant import label_of, named
from kvss_gevent.compare.measuring.experiment_context import ExperimentContext
from kvss_gevent.compare.rows import Point
from kvss_gevent.compare.summary import Seen

TITLE = "Fairness among connections"
VARIES = "connections, each with one request under way"
TEACHES = (
    "A fair server gives every connection its turn. Jain's index is 1 if all got the same, and 1/n if one got all. "
    "Beside floods it shows whether a model gives equal shares to clients or to bytes."
)
BY_HAND = "kvss bench 127.0.0.1:5050 --connections 3 --depth 256 & kvss bench 127.0.0.1:5050 --connections 29"
WITHOUT = {"sequential": "it serves one client at a time"}
CORE = False
SCENE = "flood"
PANELS = (
    Panel(
        "fairness",
        "Jain's index of fairness",
        log_y=False,
        case="alone",
        title="Alone, nearly every model treats its clients alike",
    ),
    Panel(
        "rate_per_s",
        "requests of all single clients per second",
        case="beside 3 floods",
        title="Beside floods it shows who serves clients and who serves bytes",
    ),
)

QUICK = (10, 29)
FULL = (10, 29, 100, 300)
FLOODS, FLOOD_DEPTH = 3, 256
FLOOD_STARTS_S = 1.0


def measure(context: ExperimentContext) -> Iterator[Point]:
    """Load the server as much as possible with single requests, alone and beside pipelines."""
    with context.serving() as server:
        for connections in QUICK if context.profile.quick else FULL:
            for case in ("alone", f"beside {FLOODS} floods"):
                with flooding(server.port) if case != "alone" else nullcontext():
                    point, _, outcome = context.saturate(server, connections, context.load(connections), case)
                figures = dict(point.figures)
                if case != "alone":  # the server's CPU time was used for the floods too
                    figures.pop("cpu_us", None)
                if outcome.fairness is not None:
                    figures["fairness"] = outcome.fairness
                yield replace(point, figures=figures)


@contextmanager
def flooding(port: int) -> Iterator[None]:
    """Load the server with deep pipelines until the block ends, from another process."""
    words = ["-m", "kvss_gevent", "bench", f"127.0.0.1:{port}", "--connections", str(FLOODS)]
    words += ["--depth", str(FLOOD_DEPTH), "--seconds", "60"]
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(FLOOD_STARTS_S)
        yield
    finally:
        process.kill()
        process.wait()


def findings(seen: Seen) -> Iterator[Statement]:
    """Say which models are fair alone, and which beside floods."""
    for case in ("alone", f"beside {FLOODS} floods"):
        most = max(seen.xs())
        ranked = seen.ranking("fairness", at=most, case=case)
        if len(ranked) > 1:
            (least, low), (best, high) = ranked[0], ranked[-1]
            if low.median > 0.95:
                yield Statement(
                    f"{case.capitalize()}, every model gave {most:,.0f} connections nearly the same: the lowest "
                    f"index was {low.median:.2f} ({label_of(least)})."
                )
                continue
            fair = [name for name, index in ranked if index.median > 0.95]
            yield Statement(
                f"{case.capitalize()}, {named(fair) or 'nobody'} gave {most:,.0f} connections nearly the same "
                f"(an index over 0.95); the index went from {low.median:.2f} "
                f"({label_of(least)}) to {high.median:.2f} ({label_of(best)})."
            )
