"""Experiment 21: whether requests under way are answered when the server must stop, and how long its end takes."""

import contextlib
import signal
import time
from collections.abc import Iterator

from kvss_gevent.compare.experiments import Panel, Statement
from kvss_gevent.compare.measuring.contestant import label_of, model_of
from kvss_gevent.compare.measuring.experiment_context import ExperimentContext
from kvss_gevent.compare.rows import Point
from kvss_gevent.compare.summary import Seen
from kvss_gevent.compare.words import listed

TITLE = "Cancellation and the end of a server"
VARIES = "clients, each with one request of 50 ms under way when SIGTERM comes"
TEACHES = (
    "The end is the hard part of a server. Received requests should be answered, idle connections closed, and the "
    "process should end soon. A textbook server disconnects all clients; the product drains first; a library with "
    "structured cancellation at least knows what it cancels."
)
BY_HAND = "kvss serve --lab & printf 'KV/1.0 SLEEP 500\\n' | nc -N 127.0.0.1 5050 & sleep 0.1; kill -TERM %1"
CORE = False
PANELS = (
    Panel(
        "answered",
        "requests answered of 8 that were under way",
        kind="dots",
        title="Who still answers what it has received when told to stop",
        log_x=False,
    ),
    Panel("end_s", "seconds until the process is gone", kind="dots", title="How long the end takes", log_x=False),
)

CLIENTS, WORK_MS, LEAD_S, LIMIT_S = 8, 50, 0.03, 12.0


def measure(context: ExperimentContext) -> Iterator[Point]:
    """Send slow requests, tell the server to stop, and count replies."""
    clients = min(CLIENTS, context.places)
    with context.serving("--lab") as server, contextlib.ExitStack() as stack:
        socks = [stack.enter_context(server.connect(LIMIT_S)) for _ in range(clients)]
        for sock in socks:
            sock.sendall(b"KV/1.0 GET nothing\n")
            sock.recv(100)
        for sock in socks:
            sock.sendall(b"KV/1.0 SLEEP %d\n" % WORK_MS)
        time.sleep(LEAD_S)
        begun_s = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        answered = 0
        for sock in socks:
            with contextlib.suppress(OSError):
                answered += sock.recv(100) == b"200 OK\n"
        code = server.process.wait(LIMIT_S)
        figures = {"answered": answered, "asked": clients, "end_s": time.monotonic() - begun_s, "exit_code": code}
        yield Point(clients, figures)


def findings(seen: Seen) -> Iterator[Statement]:
    """Say which models answer all requests under way, and which only some."""
    answered = {
        name: found for name, found in seen.ranking("answered", lowest_first=False) if model_of(name) != "sequential"
    }
    whole = [label_of(name) for name, found in answered.items() if found.low >= max(seen.xs(name))]
    others = [
        f"{label_of(name)} {found.median:.0f}" for name, found in answered.items() if found.low < max(seen.xs(name))
    ]
    yield Statement(
        f"All requests under way were answered by {listed(whole) or 'nobody'}; others: {listed(others) or 'none'}."
    )
    if "gevent" in answered:
        found = answered["gevent"]
        most = max(seen.xs("gevent"))
        yield Statement(
            f"{label_of('gevent')} answered {found.median:.0f} of {most:.0f} before it ended.",
            True if found.low >= most else False if found.high < most else None,
            "the product drains",
        )
