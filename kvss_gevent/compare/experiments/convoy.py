"""Experiment 7: the convoy at the interpreter's lock: threads that compute delay a thread with a quick request."""

import sys
from collections.abc import Iterator

from kvss_gevent.compare.experiments import Panel, Statement
from kvss_gevent.compare.measuring.experiment_context import ExperimentContext, asking
from kvss_gevent.compare.rows import Point
from kvss_gevent.compare.summary import Seen
from kvss_gevent.compare.words import milliseconds, times

TITLE = "The convoy at the interpreter's lock"
VARIES = "threads that burn CPU beside the one that answers"
TEACHES = (
    "A thread that wakes up must ask for the interpreter's lock, and gets it after the switch interval, 5 ms by "
    "default. It waits again after every call that released the lock. So quick requests wait for each thread that "
    "computes."
)
BY_HAND = (
    "kvss serve --lab --model threads & printf 'KV/1.0 BURN 5000\\n' | nc -N 127.0.0.1 5050 & kvss "
    "bench 127.0.0.1:5050 --connections 1 --seconds 2"
)
CORE = False
SCENE = "cores"
ONLY = ("threads", "pool")
PANELS = (
    Panel(
        "p50_us",
        "p50 of a paced client, microseconds",
        log_x=False,
        title="A quick request waits for the switch interval, burner by burner",
    ),
)

INTERVALS_MS = (5.0, 0.5, 0.05)
RATE, SECONDS = 20.0, 2.0
BURNING = b"KV/1.0 BURN 200"


def measure(context: ExperimentContext) -> Iterator[Point]:
    """Send 20 requests a second beside 0, 1 and 2 clients that burn CPU, with three switch intervals."""
    for interval_ms in INTERVALS_MS:
        with context.serving("--lab", setup=f"sys.setswitchinterval({interval_ms / 1000})") as server:
            for burners in (0, 1, 2):
                beside = [asking(server.port, BURNING)] * burners
                case = f"switch interval {interval_ms:g} ms"
                point, _ = context.offer(
                    server, burners, rate=RATE, users=1, seconds=SECONDS, beside=beside, case=case, drain_s=1.0
                )
                yield point


def findings(seen: Seen) -> Iterator[Statement]:
    """Say how long a quick client waits beside a client that burns CPU, with each switch interval."""
    usual, short = f"switch interval {INTERVALS_MS[0]:g} ms", f"switch interval {INTERVALS_MS[-1]:g} ms"
    for name in seen.contestants:
        alone, one = seen.get(name, 0, "p50_us", usual), seen.get(name, 1, "p50_us", usual)
        brisk = seen.get(name, 1, "p50_us", short)
        if alone and one and brisk:
            gil = getattr(sys, "_is_gil_enabled", lambda: True)()
            yield Statement(
                f"{name}: beside one burning thread the median wait grows from {milliseconds(alone.median)} to "
                f"{milliseconds(one.median)}, {times(one.median / max(alone.median, 1))}; with a switch interval of "
                f"{INTERVALS_MS[-1]:g} ms it is {milliseconds(brisk.median)}.",
                (one.median > INTERVALS_MS[0] * 800 and brisk.median < one.median / 2) if gil else None,
                f"the switch interval is what {name} waits for",
            )
