"""Experiment 19: the server's memory while clients request much and read nothing."""

import contextlib
import time
from collections.abc import Iterator

from kvss_gevent.compare.experiments import Panel, Statement
from kvss_gevent.compare.measuring.contestant import label_of
from kvss_gevent.compare.measuring.experiment_context import ExperimentContext
from kvss_gevent.compare.rows import Point
from kvss_gevent.compare.summary import Seen
from kvss_gevent.measure.process_usage import size

TITLE = "Backpressure: clients that do not read"
VARIES = "clients that ask for 2,000 values of 64 KiB each, and read none"
TEACHES = (
    "A server that writes without checking whether the client reads keeps the replies in its memory, until that is "
    "full. It must wait for the client: by blocking in a thread, by `await drain()`, or by reading no further requests."
)
BY_HAND = (
    "(printf 'KV/1.0 GET big\\n%.0s' $(seq 2000); sleep 5) | nc 127.0.0.1 5050 >/dev/null & "
    "grep Pss: /proc/PID/smaps_rollup"
)
CORE = False
REPEATS = 3
PANELS = (
    Panel(
        "grown_mib",
        "MiB grown, of 1,250 MiB that eight clients asked for",
        kind="dots",
        title="No model keeps what nobody reads: memory beside deaf clients",
        log_x=False,
    ),
)

CLIENTS, REQUESTS, VALUE_BYTES = 8, 2000, 64 << 10
SETTLE_S = 0.7
LIMIT_MIB = 64.0


def measure(context: ExperimentContext) -> Iterator[Point]:
    """Read the server's memory before and after clients have sent requests without reading replies."""
    clients = min(CLIENTS, context.places)
    with context.serving() as server, contextlib.ExitStack() as stack:
        socks = [stack.enter_context(server.connect()) for _ in range(clients)]
        socks[0].sendall(b"KV/1.0 PUT big " + b"x" * VALUE_BYTES + b"\n")
        socks[0].recv(100)
        time.sleep(0.1)
        before = size(server.pid)
        for sock in socks:
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                sock.send(b"KV/1.0 GET big\n" * REQUESTS)
        time.sleep(SETTLE_S)
        yield Point(clients, {"grown_mib": (size(server.pid).pss_bytes - before.pss_bytes) / 2**20})


def findings(seen: Seen) -> Iterator[Statement]:
    """Say which model keeps most."""
    ranked = seen.ranking("grown_mib")
    if ranked:
        (name, most) = ranked[-1]
        yield Statement(
            f"Most was kept by {label_of(name)}, {most.median:.0f} MiB.",
            True if most.high < LIMIT_MIB else False if most.low >= LIMIT_MIB else None,
            "no model keeps what nobody reads",
        )
