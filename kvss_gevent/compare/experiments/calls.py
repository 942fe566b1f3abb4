"""Experiment 15: the system calls, by name, and the context switches of a request."""

import contextlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from kvss_gevent.compare.experiments import Panel, Statement
from kvss_gevent.compare.measuring.contestant import label_of
from kvss_gevent.compare.measuring.experiment_context import ExperimentContext
from kvss_gevent.compare.rows import Point
from kvss_gevent.compare.summary import Seen
from kvss_gevent.compare.words import listed
from kvss_gevent.measure.launch import Launched
from kvss_gevent.measure.process_usage import tree, usage

TITLE = "System calls and context switches of a request"
VARIES = "requests sent at once, on as many connections"
TEACHES = (
    "The system calls show what a model does for a request. A thread needs two calls, to receive and to send. A loop "
    "needs a third call to learn which sockets are ready, but one such call is enough for all ready sockets."
)
BY_HAND = "strace -f -c -p PID"
CORE = True
REPEATS = 2
CALIBRATED = True

SINGLY = 1
TRACED_S = 0.2
ATTACH_S = 5.0
"""The longest wait until the tracer has all threads of the server. Calls of a thread without it are not counted."""
PAUSE_S = 0.001
"""The pause between single requests, so that the server sleeps before each of them."""

LINE = re.compile(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", re.MULTILINE)
"""A line of `strace -c`: share, seconds, microseconds a call, calls, errors, name."""

SHOWN = ("recvfrom", "sendto", "epoll_wait", "epoll_ctl", "mmap", "munmap", "futex")

PANELS = (
    Panel(
        "calls",
        "system calls per request",
        kind="dots",
        title="A loop shares its waking among all that are ready; a thread does not",
        log_x=False,
        capped=False,
    ),
    Panel(
        "switches",
        "context switches per request",
        kind="dots",
        title="Who is woken for every request, and who is not",
        log_x=False,
        capped=False,
    ),
)


def measure(context: ExperimentContext) -> Iterator[Point]:
    """Send requests one at a time and many at once, first without a tracer, to count switches, then with it."""
    with context.serving() as server:
        for at_once in sorted({SINGLY, context.places}):
            with contextlib.ExitStack() as stack:
                socks = [stack.enter_context(server.connect()) for _ in range(context.places)]
                ask(socks, len(socks), TRACED_S / 4)
                before = usage(server.pid)
                requests = ask(socks, at_once, TRACED_S)
                figures = {"switches": usage(server.pid).since(before).switches / requests}
                figures |= count_calls(server, socks, at_once)
            yield Point(at_once, figures, case="one at a time" if at_once == SINGLY else "32 at once")


def count_calls(server: Launched, socks: list[socket.socket], at_once: int) -> dict[str, float]:
    """Return system calls per request, all and by name; {} if strace is missing, not allowed, or too late."""
    if not shutil.which("strace"):
        return {}
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "calls"
        words = ["strace", "-f", "-c", "-o", str(out), *(word for pid in tree(server.pid) for word in ("-p", str(pid)))]
        tracer = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            until_s = time.monotonic() + ATTACH_S
            while not all(map(is_traced, tree(server.pid))):
                if tracer.poll() is not None or time.monotonic() > until_s:
                    return {}
                time.sleep(PAUSE_S)
            requests = ask(socks, at_once, TRACED_S)
            tracer.send_signal(signal.SIGINT)
            tracer.wait(10)
        except (OSError, subprocess.TimeoutExpired):
            return {}
        finally:
            tracer.kill()
            tracer.wait()
        counted = {name: int(number) for number, name in LINE.findall(out.read_text() if out.exists() else "")}
    total = counted.pop("total", 0)
    if not total:
        return {}
    return {"calls": total / requests} | {name: counted.get(name, 0) / requests for name in SHOWN}


def is_traced(pid: int) -> bool:
    """Tell whether a tracer has all threads of a process."""
    threads = Path(f"/proc/{pid}/task").glob("*/status")
    return not any("TracerPid:\t0\n" in thread.read_text() for thread in threads)


def ask(socks: list[socket.socket], at_once: int, seconds: float) -> int:
    """Send a request on at_once connections, wait for all replies, and repeat; returns the number of requests."""
    requests = 0
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        chosen = [socks[(requests + number) % len(socks)] for number in range(at_once)]
        for sock in chosen:
            sock.sendall(b"KV/1.0 GET key:00000001\n")
        for sock in chosen:
            if not sock.recv(4096):
                raise ConnectionError("the server closed")
        requests += at_once
        if at_once == SINGLY:
            time.sleep(PAUSE_S)
    return requests


def findings(seen: Seen) -> Iterator[Statement]:
    """Say how many calls a request takes, alone and with others, and which models map memory for every request."""
    for x, words in ((SINGLY, "sent one at a time"), (32, "sent 32 at once")):
        ranked = seen.ranking("calls", at=x, case="one at a time" if x == SINGLY else "32 at once")
        if len(ranked) > 1:
            yield Statement(
                f"System calls for each request {words}: "
                + listed(f"{label_of(name)} {found.median:.1f}" for name, found in ranked)
                + "."
            )
    mapping = [
        label_of(name)
        for name, found in seen.ranking("mmap", at=SINGLY, case="one at a time", lowest_first=False)
        if found.median > 0.5
    ]
    yield Statement("A tracer slows its server down: threads then meet at their locks more often than without it.")
    yield Statement(f"Memory was mapped and unmapped for every request by {listed(mapping) or 'nobody'}.")
    if (threads := seen.get("threads", SINGLY, "calls", "one at a time")) and (
        loop := seen.get("select", SINGLY, "calls", "one at a time")
    ):
        yield Statement(
            f"One at a time, threads makes {threads.median:.1f} calls and select {loop.median:.1f}.",
            None if threads.high >= loop.low and threads.median < loop.median else threads.median < loop.median,
            "a thread needs fewer calls than a loop for a single request",
        )
