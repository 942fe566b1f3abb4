"""Experiment 4: the cost of idle connections: memory, threads, processes, descriptors."""

import contextlib
import selectors
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from kvss_gevent.compare.estimate import judge
from kvss_gevent.compare.experiments import Panel, Statement
from kvss_gevent.compare.measuring.contestant import FailedError, label_of
from kvss_gevent.compare.measuring.experiment_context import ExperimentContext
from kvss_gevent.compare.rows import Point
from kvss_gevent.compare.summary import Seen
from kvss_gevent.compare.words import listed
from kvss_gevent.measure.process_usage import Size, size

TITLE = "Memory of idle connections"
VARIES = "connections that have asked once and now wait"
TEACHES = (
    "An idle connection costs what the model keeps for it: an object, a coroutine, a greenlet with its saved stack, a "
    "thread with its own stack, or a whole process."
)
BY_HAND = "grep Pss: /proc/PID/smaps_rollup; ls /proc/PID/task /proc/PID/fd | wc -l"
CORE = True
STORELESS = True
LIMIT_S = 180.0
PANELS = (
    Panel(
        "each_kib",
        "KiB of the server's memory for each idle connection",
        kind="dots",
        title="What a model keeps for a client that only stays connected",
    ),
    Panel(
        "kernel_kib",
        "KiB of the kernel's memory for each idle connection, both ends",
        kind="dots",
        title="What the kernel keeps besides: sockets, and stacks and tables of threads and processes",
    ),
    Panel("pss_mib", "memory (PSS), MiB", title="Memory grows with every idle connection, at each model's own price"),
)

QUICK = (0, 100, 500)
FULL = (0, 100, 500, 1000, 2000, 5000)
FEW = 10
"""Fewer connections do not show what one connection costs."""

ANSWER_LIMIT_S = 20.0
SETTLE_S = 0.2
"""Time for threads and processes of earlier clients to end, before the memory without clients is read."""
REQUEST = b"KV/1.0 GET nothing\n"


def measure(context: ExperimentContext) -> Iterator[Point]:
    """Connect more and more clients to one server; each sends one request."""
    with context.serving() as server, Crowd(server.port) as crowd:
        with Crowd(server.port) as earlier:
            earlier.grow(context.places)  # from here on, a fixed number of threads or processes exists
        time.sleep(SETTLE_S)
        first: tuple[Size, int] | None = None
        for wanted in QUICK if context.profile.quick else FULL:
            answered = crowd.grow(wanted)
            if wanted and not answered:
                raise FailedError("no connection was answered")
            now, kernel_kib = size(server.pid), kernel_memory_kib()
            first = first or (now, kernel_kib)
            figures: dict[str, float] = {
                "pss_mib": now.pss_bytes / 2**20,
                "threads": now.threads,
                "processes": now.processes,
                "descriptors": now.descriptors,
                "answered": answered,
            }
            if answered >= FEW:
                figures["each_kib"] = (now.pss_bytes - first[0].pss_bytes) / answered / 1024
                figures["kernel_kib"] = (kernel_kib - first[1]) / answered
            errors = {"unanswered connections": wanted - answered} if answered < wanted else {}
            yield Point(wanted, figures, errors)
            if answered < wanted:
                return  # more connections would not be answered either


def kernel_memory_kib() -> int:
    """Return the kernel's memory for sockets, stacks of threads and page tables on the whole machine.

    For a connection on loopback it contains both ends, also the client's.
    """
    found = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return sum(int(found[name].split()[0]) for name in ("Slab", "KernelStack", "PageTables"))


class Crowd:
    """Clients that connect, send one request, and stay connected."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stack = contextlib.ExitStack()
        self._answered = 0
        self._connected = 0

    def __enter__(self) -> "Crowd":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def grow(self, wanted: int) -> int:
        """Connect further clients up to `wanted`; returns how many of all have been answered."""
        deadline_s = time.monotonic() + ANSWER_LIMIT_S
        with selectors.DefaultSelector() as waiting:
            for _ in range(wanted - self._connected):
                try:
                    sock = socket.create_connection(("127.0.0.1", self._port), 2)
                except OSError:
                    break
                self._stack.enter_context(sock)
                self._connected += 1
                sock.sendall(REQUEST)
                waiting.register(sock, selectors.EVENT_READ)
            quiet_s = 1.0
            while waiting.get_map() and time.monotonic() < deadline_s:
                ready = waiting.select(quiet_s)
                if not ready:
                    break  # no client was answered for a while, so no further one will be
                for key, _ in ready:
                    waiting.unregister(key.fileobj)
                    sock = key.fileobj  # type: ignore[assignment]
                    with contextlib.suppress(OSError):
                        self._answered += bool(sock.recv(100))
        return self._answered


def findings(seen: Seen) -> Iterator[Statement]:
    """Say what a connection costs at least and at most, and whether threads pay for each."""
    whole = {name: max(xs) for name in seen.contestants if (xs := [x for x in seen.xs(name) if x])}
    each = {name: found for name, x in whole.items() if (found := seen.get(name, x, "each_kib"))}
    if len(each) > 1:
        order = sorted(each, key=lambda name: each[name].median)
        yield Statement(
            f"An idle connection costs {each[order[0]].median:,.1f} KiB with {label_of(order[0])} and "
            f"{each[order[-1]].median:,.0f} KiB with {label_of(order[-1])}, without what the kernel keeps."
        )
    loops = [name for name in ("select", "protocol", "uvloop", "asyncio", "gevent") if name in each]
    if "threads" in each and loops:
        least = min(each[name].median for name in loops)
        threads = seen.get("threads", whole["threads"], "threads")
        assert threads is not None
        yield Statement(
            f"threads has a thread for each connection, {threads.median:,.0f} at {whole['threads']:,.0f} connections, "
            f"and pays {each['threads'].median:,.0f} KiB for each; the loops, {listed(loops)}, from {least:,.1f} on.",
            judge(each["threads"], lambda kib: kib > 2 * least and threads.median > whole["threads"]),
            "threads pays memory for each connection",
        )
