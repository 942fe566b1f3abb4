"""Experiment 9: what a request costs the server: CPU, system calls, switches of the processor."""

import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from kvss_gevent.compare.estimate import Estimate, ratio
from kvss_gevent.compare.experiments import Finding, Panel
from kvss_gevent.compare.measuring.contestant import CLIENTS_OF_A_POOL
from kvss_gevent.compare.measuring.experiment_context import Workbench
from kvss_gevent.compare.report.summary import Seen
from kvss_gevent.compare.rows import Point
from kvss_gevent.compare.words import listed, times
from kvss_gevent.measure.launch import Launched
from kvss_gevent.measure.load import Load
from kvss_gevent.measure.process_usage import tree

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
    Panel("cpu_us", "CPU per request, microseconds", kind="bars", capped=False),
    Panel("switches", "context switches per request", kind="bars", log_x=False, capped=False),
    Panel("calls", "system calls per request", kind="bars", log_x=False, capped=False),
)
ATTACH_S, TRACED_S = 0.3, 0.3

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
            figures["kernel_share"] = used.system_share
            figures["switches"] = used.switches / outcome.requests
        calls = count_calls(server, connections)
        if calls is not None:
            figures["calls"] = calls
        yield replace(point, figures=figures)


def count_calls(server: Launched, connections: int) -> float | None:
    """Return system calls per request, None where there is no tracer that may be used.

    Clients connect and ask once before the tracer is attached, so that threads and processes made for them are traced;
    then all ask at once, again and again. What the tracer costs does not change the number of calls much.
    """
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        socks = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 5)) for _ in range(connections)
        ]
        ask_all(socks)
        out = Path(directory) / "calls"
        pids = tree(server.pid)
        if shutil.which("perf"):
            words = ["perf", "stat", "-x", ",", "-e", "raw_syscalls:sys_enter", "-o", str(out)]
            words += ["-p", ",".join(map(str, pids))]
        elif shutil.which("strace"):
            words = ["strace", "-f", "-c", "-o", str(out), *(word for pid in pids for word in ("-p", str(pid)))]
        else:
            return None
        tracer = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            time.sleep(ATTACH_S)
            requests = 0
            until_s = time.monotonic() + TRACED_S
            while time.monotonic() < until_s:
                ask_all(socks)
                requests += connections
            tracer.send_signal(signal.SIGINT)
            tracer.wait(10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        finally:
            tracer.kill()
            tracer.wait()
        found = _read(out)
    return found / requests if found else None


def ask_all(socks: list[socket.socket]) -> None:
    """Send a request on every connection, then wait for every reply."""
    for sock in socks:
        sock.sendall(b"KV/1.0 GET key:00000001\n")
    for sock in socks:
        if not sock.recv(4096):
            raise ConnectionError("the server closed")


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
        + (" sequential has one client, and sleeps and wakes for each request." if "sequential" in dict(costs) else "")
    )
    own = dict(costs).get("gevent")
    if own is None:
        return
    for name, factor in KNOWN.items():
        if name in dict(costs):
            times_own = ratio(_values(seen, name), _values(seen, "gevent"))
            yield Finding(
                f"{name} cost {_shown(times_own)} as much as gevent; expected was at least {factor:g}."
                + _undecided(times_own.median < factor <= times_own.high),
                None if times_own.median < factor <= times_own.high else times_own.median >= factor,
                f"gevent costs less than {name}",
            )
    for name, factor in NEAR.items():
        if name in dict(costs):
            times_other = ratio(_values(seen, "gevent"), _values(seen, name))
            yield Finding(
                f"gevent cost {_shown(times_other)} as much as {name}; expected was at most {factor:g}."
                + _undecided(times_other.low <= factor < times_other.median),
                None if times_other.low <= factor < times_other.median else times_other.median <= factor,
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


def _values(seen: Seen, name: str) -> list[float]:
    return seen.values(name, CLIENTS_OF_A_POOL, "cpu_us")


def _shown(factor: Estimate) -> str:
    return f"{factor.median:.2f} times ({factor.low:.2f} to {factor.high:.2f})"


def _undecided(is_so: bool) -> str:
    return " These repeats do not decide it: the interval reaches that far." if is_so else ""
