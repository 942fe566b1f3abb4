"""Experiment 23: new servers compared with servers that have served clients before: the state of the allocator."""

from collections.abc import Iterator
from dataclasses import replace

from kvss_gevent.compare.estimate import BAND, LEAST_GENERATIONS, paired_ratio
from kvss_gevent.compare.experiments import Panel, Statement
from kvss_gevent.compare.measuring.contestant import label_of
from kvss_gevent.compare.measuring.experiment_context import Generation
from kvss_gevent.compare.measuring.paced import Pace
from kvss_gevent.compare.rows import Point
from kvss_gevent.compare.summary import Seen
from kvss_gevent.compare.words import listed

TITLE = "New servers and servers that have served before"
VARIES = "requests a second, 32 at once"
TEACHES = (
    "glibc gets large blocks from the kernel at each request and gives them back, until one has been freed: then it "
    "keeps them. A new server that receives into new buffers of 256 KiB pays for two more system calls and for page "
    "faults, until one client has come and gone. A comparison must say which of the two states it measured."
)
BY_HAND = "strace -f -c -e trace=mmap,munmap -p PID"
CORE = False
PAIRED = True
ONLY = ("gevent", "asyncio", "protocol", "uvloop", "threads", "select", "gevent-plain", "trio")
LIMIT_S = 120.0

PACE = Pace(10_000, 32)
NEW, SERVED = "new", "clients have come and gone"
PANELS = (
    Panel(
        "cpu_us",
        "CPU per request, microseconds",
        kind="dots",
        title="A new server is another server: what the allocator remembers",
        capped=False,
    ),
)


def measure_together(context: Generation) -> Iterator[tuple[str, Point | str]]:
    """Measure new servers, and servers that have served clients before."""
    for case, primed in ((NEW, False), (SERVED, True)):
        for name, found in context.by_turns((PACE,), 6, 0.04, primed=primed, stored=False):
            yield name, found if isinstance(found, str) else replace(found, case=case)


def is_settled(_: Seen) -> bool:
    """Tell that the generations of the profile are enough."""
    return True


def findings(seen: Seen) -> Iterator[Statement]:
    """Say which models' costs change, and by how much."""
    changed: list[str] = []
    same: list[str] = []
    for name in seen.contestants:
        new, served = (seen.values(name, PACE.per_s, "cpu_us", case) for case in (NEW, SERVED))
        if len(new) == len(served) >= LEAST_GENERATIONS:
            ratio = paired_ratio(new, served)
            (same if ratio.low <= BAND and ratio.high >= 1 / BAND else changed).append(f"{label_of(name)} {ratio}")
    yield Statement(
        f"A new server's cost as a multiple of its later one: {listed(changed) or 'nobody differs'}; "
        f"no difference is determined for {listed(same) or 'nobody'}."
    )
