"""Experiment 13: from small values to large ones, for which copying takes most of the time."""

from collections.abc import Iterator
from dataclasses import replace

from kvss_gevent.compare.experiments import Panel, Statement
from kvss_gevent.compare.measuring.contestant import label_of
from kvss_gevent.compare.measuring.experiment_context import ExperimentContext
from kvss_gevent.compare.rows import Point
from kvss_gevent.compare.summary import Seen
from kvss_gevent.compare.words import size_of, times

TITLE = "Value size"
VARIES = "bytes of a value, on 16 connections"
TEACHES = (
    "Small values cost system calls, large values cost copies. With small values the models differ by how often they "
    "are woken; with large ones by how often they copy the same bytes."
)
BY_HAND = "kvss bench 127.0.0.1:5050 --connections 16 --value 65536 --keys 500 --server-pid PID"
CORE = False
CALIBRATED = False
LIMIT_S = 120.0
PANELS = (
    Panel("mib_per_s", "values moved, MiB per second", title="Large values cost copies, not calls"),
    Panel(
        "cpu_us",
        "CPU per request, microseconds",
        capped=False,
        title="What a request costs grows with its value only from some KiB on",
    ),
)

QUICK = (16, 4096, 65536)
FULL = (16, 256, 4096, 65536, 1 << 20)
CONNECTIONS = 16


def measure(context: ExperimentContext) -> Iterator[Point]:
    """Load the server as much as possible, with larger and larger values."""
    with context.serving("--max-line", "2M") as server:
        for value_bytes in QUICK if context.profile.quick else FULL:
            load = context.load(CONNECTIONS, 1, value_bytes)
            # The keys are stored first, at most 32 MiB of them.
            keys = max(1, min(load.keys, (32 << 20) // value_bytes))
            load = type(load)(
                load.connections, 1, load.get_percent, value_bytes, keys, load.seconds, load.warmup_s, load.drain_s
            )
            point, _, _ = context.saturate(server, value_bytes, load)
            figures = {**point.figures, "mib_per_s": point.figures["rate_per_s"] * value_bytes / 2**20}
            yield replace(point, figures=figures)


def findings(seen: Seen) -> Iterator[Statement]:
    """Say which models are cheapest with small and with large values."""
    small, large = min(seen.xs()), max(seen.xs())
    cheap, moved = seen.ranking("cpu_us", at=small), seen.ranking("cpu_us", at=large)
    if len(cheap) > 1 and len(moved) > 1:
        yield Statement(
            f"With {size_of(small)} {label_of(cheap[0][0])} was cheapest and {label_of(cheap[-1][0])} dearest, "
            f"{times(cheap[-1][1].median / cheap[0][1].median)}; with {size_of(large)} {label_of(moved[0][0])} and "
            f"{label_of(moved[-1][0])}, {times(moved[-1][1].median / moved[0][1].median)}."
        )
