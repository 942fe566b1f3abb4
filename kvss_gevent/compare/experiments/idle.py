"""Experiment 4: what connections cost that do nothing: memory, threads, processes, descriptors."""

import contextlib
import selectors
import socket
import time
from collections.abc import Iterator

from kvss_gevent.compare.experiments import Finding, Panel
from kvss_gevent.compare.measuring.contestant import FailedError
from kvss_gevent.compare.measuring.experiment_context import Workbench
from kvss_gevent.compare.report.summary import Seen
from kvss_gevent.compare.rows import Point
from kvss_gevent.compare.words import listed, times
from kvss_gevent.measure.process_usage import Size, size

TITLE = "Memory of idle connections"
VARIES = "connections that have asked once and now wait"
TEACHES = (
    "An idle connection costs whatever the model keeps to remember it by: an object, a coroutine, a greenlet with its "
    "saved stack, a thread with a stack of its own, or a whole process."
)
BY_HAND = "grep Pss: /proc/PID/smaps_rollup; ls /proc/PID/task /proc/PID/fd | wc -l"
CORE = True
LIMIT_S = 180.0
PANELS = (
    Panel("pss_mib", "memory (PSS), MiB"),
    Panel("each_kib", "KiB for each connection", kind="bars", log_x=True),
)

QUICK = (0, 100, 500)
FULL = (0, 100, 500, 1000, 2000, 5000)
FEW = 10
"""Fewer connections than this do not tell what one costs."""

ANSWER_LIMIT_S = 20.0
REQUEST = b"KV/1.0 GET nothing\n"


def measure(bench: Workbench) -> Iterator[Point]:
    """Connect more and more clients to one server, each of which asks once."""
    with bench.serving() as server, Crowd(server.port) as crowd:
        first: Size | None = None
        for wanted in QUICK if bench.profile.quick else FULL:
            answered = crowd.grow(wanted)
            if wanted and not answered:
                raise FailedError("no connection was answered")
            now = size(server.pid)
            first = first or now
            figures: dict[str, float] = {
                "pss_mib": now.pss_bytes / 2**20,
                "threads": now.threads,
                "processes": now.processes,
                "descriptors": now.descriptors,
                "answered": answered,
            }
            if answered >= FEW:
                figures["each_kib"] = (now.pss_bytes - first.pss_bytes) / answered / 1024
            errors = {"unanswered connections": wanted - answered} if answered < wanted else {}
            yield Point(wanted, figures, errors)
            if answered < wanted:
                return  # more would not be answered either


class Crowd:
    """Clients that connect, ask once, and stay."""

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
        """Have so many clients in all; returns how many of them have ever been answered."""
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
                    break  # nobody has been answered for a while: nobody will be
                for key, _ in ready:
                    waiting.unregister(key.fileobj)
                    sock = key.fileobj  # type: ignore[assignment]
                    with contextlib.suppress(OSError):
                        self._answered += bool(sock.recv(100))
        return self._answered


def findings(seen: Seen) -> Iterator[Finding]:
    """What a connection costs least and most, and whether threads pay for each."""
    whole = {name: max(xs) for name in seen.contestants if (xs := [x for x in seen.xs(name) if x])}
    each = {name: found for name, x in whole.items() if (found := seen.get(name, x, "each_kib"))}
    if len(each) > 1:
        order = sorted(each, key=lambda name: each[name].median)
        yield Finding(
            f"An idle connection costs {each[order[0]].median:,.1f} KiB with {order[0]} and "
            f"{each[order[-1]].median:,.0f} KiB with {order[-1]}, "
            f"{times(each[order[-1]].median / max(each[order[0]].median, 0.1))} as much."
        )
    loops = [name for name in ("select", "protocol", "uvloop", "asyncio", "gevent") if name in each]
    if "threads" in each and loops:
        least = min(each[name].median for name in loops)
        threads = seen.get("threads", whole["threads"], "threads")
        assert threads is not None
        yield Finding(
            f"threads has a thread for each connection, {threads.median:,.0f} at {whole['threads']:,.0f} connections, "
            f"and pays {each['threads'].median:,.0f} KiB for each; the loops, {listed(loops)}, from {least:,.1f} on.",
            threads.median > whole["threads"] and each["threads"].median > 2 * least,
            "threads pays memory for each connection",
        )
