"""Experiment 20: all clients write the same key, or different keys: the cost of one lock around the store."""

from collections.abc import Iterator
from dataclasses import replace

from kvss_gevent.compare.experiments import Panel, Statement
from kvss_gevent.compare.measuring.contestant import label_of
from kvss_gevent.compare.measuring.experiment_context import ExperimentContext
from kvss_gevent.compare.rows import Point
from kvss_gevent.compare.summary import Seen
from kvss_gevent.compare.words import listed

TITLE = "One hot key, and the lock around the store"
VARIES = "different keys that 32 clients write"
TEACHES = (
    "With one lock around the store, threads wait for each other whichever keys they write. On a loop no handler waits "
    "for a lock, because no other one runs. A lock for each key would help only if the interpreter ran two threads at "
    "once."
)
BY_HAND = "kvss bench 127.0.0.1:5050 --get 0 --keys 1; kvss bench 127.0.0.1:5050 --get 0 --keys 1000"
CORE = False
PANELS = (
    Panel(
        "cpu_us",
        "CPU per PUT, microseconds",
        kind="dots",
        title="With one lock, or none, one key is no hotter than a thousand",
        capped=False,
    ),
)

KEYS = (1, 1000)


def measure(context: ExperimentContext) -> Iterator[Point]:
    """Load the server as much as possible with PUTs to one key, then to many."""
    with context.serving() as server:
        for keys in KEYS:
            load = replace(context.load(context.places, get_percent=0), keys=keys)
            point, _, _ = context.saturate(server, keys, load)
            yield replace(point, case="one key" if keys == 1 else f"{keys:,} keys")


def findings(seen: Seen) -> Iterator[Statement]:
    """Say which models pay for a hot key."""
    dearer = []
    for name in seen.contestants:
        hot, cold = seen.get(name, 1, "cpu_us", "one key"), seen.get(name, 1000, "cpu_us", "1,000 keys")
        if hot and cold and hot.low > cold.high * 1.2:
            dearer.append(f"{label_of(name)} {hot.median / cold.median:.1f} times")
    yield Statement(f"A PUT to the one hot key cost clearly more with {listed(dearer) or 'nobody'}.")
