"""Experiment 9: what a request costs the server: CPU, system calls, switches of the processor."""

import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from kvss_gevent.counters import tree
from kvss_gevent.load import Load
from loadtest.compare.experiments import Finding, Panel
from loadtest.compare.rows import Point
from loadtest.compare.served import CLIENTS_OF_A_POOL, Served
from loadtest.compare.summary import Seen
from loadtest.compare.words import listed, times
from loadtest.compare.workbench import Workbench

TITLE = "The cost of a request"
VARIES = "connections, each with one request under way"
TEACHES = (
    "Most of a small request's cost is the kernel's: waking, receiving, sending. Models differ in how often they ask "
    "the kernel and how often the processor changes hands, and the interpreter's share comes on top."
)
BY_HAND = (
    "kvss bench 127.0.0.1:5050 --connections 32 --server-pid PID\nperf stat -e "
    "raw_syscalls:sys_enter,context-switches -p PID sleep 1"
)
CORE = True
CALIBRATED = True
LIMIT_S = 60.0
PANELS = (
    Panel("cpu_us", "CPU per request, microseconds", kind="bars"),
    Panel("switches", "context switches per request", kind="bars"),
    Panel("calls", "system calls per request", kind="bars"),
)
KNOWN = {"gevent-plain": 1.6, "asyncio": 1.5}
"""How many times the product's cost these were expected to have."""
NEAR = {"uvloop": 1.3}
"""How many times the cost of this one the product was expected to have at the most."""


def measure(bench: Workbench) -> Iterator[Point]:
    """Saturate a server and read what the kernel has counted; then once more under a tracer, for system calls."""
    with bench.serving() as server:
        connections = 1 if bench.contestant == "sequential" else CLIENTS_OF_A_POOL
        load = bench.load(connections)
        load = Load(connections, seconds=max(load.seconds, 1.0), warmup_s=load.warmup_s, drain_s=load.drain_s)
        point, used, outcome = bench.saturate(server, CLIENTS_OF_A_POOL, load)
        figures = dict(point.figures)
        if outcome.requests:
            total_s = used.user_s + used.system_s
            figures["kernel_share"] = used.system_s / total_s if total_s else 0.0
            figures["switches"] = (used.voluntary_switches + used.involuntary_switches) / outcome.requests
        calls = count_calls(bench, server, connections)
        if calls is not None:
            figures["calls"] = calls
        yield Point(point.x, figures, point.errors, point.limited)


def count_calls(bench: Workbench, server: Served, connections: int) -> float | None:
    """Return system calls per request, None where there is no tracer that may be used.

    What the tracer itself costs does not change the number of calls much.
    """
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "calls"
        pids = ",".join(map(str, tree(server.pid)))
        if shutil.which("perf"):
            words = ["perf", "stat", "-x", ",", "-e", "raw_syscalls:sys_enter", "-o", str(out), "-p", pids]
        elif shutil.which("strace"):
            words = ["strace", "-f", "-c", "-o", str(out), *(word for pid in pids.split(",") for word in ("-p", pid))]
        else:
            return None
        tracer = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            load = Load(connections, seconds=0.4, warmup_s=0.0, drain_s=0.3)
            _, _, outcome = bench.saturate(server, 0, load)
        finally:
            tracer.send_signal(signal.SIGINT)
            try:
                tracer.wait(10)
            except subprocess.TimeoutExpired:
                tracer.kill()
                tracer.wait()
        found = _read(out)
    # Every connection had a packet under way at the end, and 16 keys were stored at a time at the beginning.
    requests = outcome.requests + connections + load.keys / 16
    return found / requests if found and outcome.requests else None


def _read(path: Path) -> float | None:
    """Return the number of calls that perf or strace wrote down; None where it could not count."""
    if not path.exists():
        return None
    for line in path.read_text().splitlines():
        words = line.replace(",", " ").split()
        if "raw_syscalls:sys_enter" in line and words[0].isdigit():
            return float(words[0])
        if line.endswith(" total") and len(words) > 3:
            return float(words[3])
    return None


def findings(seen: Seen) -> Iterator[Finding]:
    """The order in CPU, and the ratios that were expected."""
    costs = seen.ranking("cpu_us")
    if not costs:
        return
    (first, least), (last, most) = costs[0], costs[-1]
    yield Finding(
        f"A request cost {first} {least.median:.1f} us of CPU and {last} {most.median:.1f} us, "
        f"{times(most.median / least.median)} as much. The order is "
        + listed(f"{name} {cost.median:.1f}" for name, cost in costs)
        + "."
    )
    own = dict(costs).get("gevent")
    if own is None:
        return
    for name, factor in KNOWN.items():
        if other := dict(costs).get(name):
            ratio = other.median / own.median
            yield Finding(
                f"{name} cost {ratio:.2f} times as much as gevent; expected was at least {factor:g}.",
                ratio >= factor,
                f"gevent costs less than {name}",
            )
    for name, factor in NEAR.items():
        if other := dict(costs).get(name):
            ratio = own.median / other.median
            yield Finding(
                f"gevent cost {ratio:.2f} times as much as {name}; expected was at most {factor:g}.",
                ratio <= factor,
                f"gevent is near {name}",
            )
    generator = seen.get("gevent", CLIENTS_OF_A_POOL, "generator_us")
    if generator:
        yield Finding(
            f"The generator itself spent {generator.median:.1f} us on a request to gevent, "
            f"{generator.median / own.median:.2f} times what the server did; at most 1.5 was expected.",
            generator.median <= 1.5 * own.median,
            "the generator is cheap enough",
        )
