"""Experiment 23: new servers beside servers from which clients have come and gone: what the allocator remembers."""

from collections.abc import Iterator
from dataclasses import replace

from kvss_gevent.compare.experiments import Finding, Panel
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
    "keeps them. A new server that receives into fresh buffers of 256 KiB pays for two more system calls and for page "
    "faults, and stops paying once any client has come and gone. A comparison that does not say which of the two it "
    "measured has measured that."
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


def measure_together(bench: Generation) -> Iterator[tuple[str, Point | str]]:
    """Measure new servers, and others that were primed."""
    for case, primed in ((NEW, False), (SERVED, True)):
        for name, found in bench.by_turns((PACE,), 6, 0.04, primed=primed):
            yield name, found if isinstance(found, str) else replace(found, case=case)


def is_settled(_: Seen) -> bool:
    """Tell that the generations of the profile are enough."""
    return True


def findings(seen: Seen) -> Iterator[Finding]:
    """Whose cost changes, and by how much."""
    costs = {
        name: (new, served)
        for name in seen.contestants
        if (new := seen.get(name, PACE.per_s, "cpu_us", NEW))
        and (served := seen.get(name, PACE.per_s, "cpu_us", SERVED))
    }
    changed = [
        f"{label_of(name)} from {new.median:.1f} to {served.median:.1f} us"
        for name, (new, served) in costs.items()
        if new.low > served.high or served.low > new.high
    ]
    yield Finding(f"Once clients had come and gone, a request cost another amount with {listed(changed) or 'nobody'}.")
