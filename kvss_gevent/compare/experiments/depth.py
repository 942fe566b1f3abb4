"""Experiment 12: pipelines: many requests are sent before the first reply is read."""

from collections.abc import Iterator

from kvss_gevent.compare.experiments import Panel, Statement
from kvss_gevent.compare.measuring.contestant import CLIENTS, is_on_disk
from kvss_gevent.compare.measuring.experiment_context import ExperimentContext
from kvss_gevent.compare.rows import Point
from kvss_gevent.compare.summary import Seen
from kvss_gevent.compare.words import times

TITLE = "Pipeline depth"
VARIES = "requests sent together, on each of 32 connections"
TEACHES = (
    "The cost of a model is for each packet and not for each request. The deeper the pipeline, the less it matters; "
    "what remains is the interpreter's work on each request."
)
BY_HAND = "kvss bench 127.0.0.1:5050 --connections 32 --depth 16 --server-pid PID"
CORE = False
CALIBRATED = True
PANELS = (
    Panel(
        "cpu_us",
        "CPU per request, microseconds",
        capped=False,
        title="The deeper the pipeline, the less the model matters",
    ),
    Panel("rate_per_s", "requests per second", title="Pipelines give every model many times its rate"),
)

QUICK = (1, 16, 64)
FULL = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def measure(context: ExperimentContext) -> Iterator[Point]:
    """Load the server as much as possible, with deeper and deeper pipelines."""
    with context.serving() as server:
        for depth in QUICK if context.profile.quick else FULL:
            point, _, _ = context.saturate(server, depth, context.load(CLIENTS, depth))
            yield point


def findings(seen: Seen) -> Iterator[Statement]:
    """Say how much a pipeline saves, and how much closer the models get."""
    first, last = min(seen.xs()), max(seen.xs())
    single, deep = dict(seen.ranking("cpu_us", at=first)), dict(seen.ranking("cpu_us", at=last))
    # Models on disk also pay for the disk store.
    both = [name for name in single if name in deep and not is_on_disk(name)]
    if len(both) < 2:
        return
    saved = {name: single[name].median / deep[name].median for name in both}
    best = max(saved, key=lambda name: saved[name])
    spread_single = max(single[name].median for name in both) / min(single[name].median for name in both)
    spread_deep = max(deep[name].median for name in both) / min(deep[name].median for name in both)
    yield Statement(
        f"{last:,.0f} requests at a time cost {best} {times(saved[best])} less each than one at a time. With data in "
        f"memory, at depth {first:,.0f} the dearest model cost {times(spread_single)} as much as the "
        f"cheapest, at depth {last:,.0f} {times(spread_deep)}.",
        all(factor > 1.5 for factor in saved.values()),
        "a pipeline saves every model most of its cost",
    )
