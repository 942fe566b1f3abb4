"""Experiment 10: many clients connect at the same moment: how fast they are accepted and how long each waits."""

import contextlib
import selectors
import socket
import statistics
import time
from collections.abc import Iterator

from kvss_gevent.compare.experiments import Panel, Statement
from kvss_gevent.compare.measuring.contestant import label_of, named
from kvss_gevent.compare.measuring.experiment_context import ExperimentContext
from kvss_gevent.compare.rows import Point
from kvss_gevent.compare.summary import Seen
from kvss_gevent.compare.words import times

TITLE = "A storm of connections"
VARIES = "clients that connect at the same moment and ask once each"
TEACHES = (
    "Accepting is work too: a thread or a process for each client is made before its first byte is read, and the last "
    "client in the queue waits for all others."
)
BY_HAND = (
    "locust -f loadtest/kvss_locust.py ConnectPerRequest --headless -H 127.0.0.1:5050 -u 32 -r 100 -t 5s --only-summary"
)
CORE = False
SCENE = "storm"
PANELS = (
    Panel("accepted_per_s", "connections accepted and answered per second", title="How fast a crowd is let in"),
    Panel(
        "first_reply_p99_us",
        "p99 of the time to the first reply, microseconds",
        title="The last of a crowd waits for all others",
    ),
)

QUICK = (100, 500)
FULL = (100, 500, 1000, 2000)
LIMIT_S = 120.0
WAIT_S = 20.0
QUIET_S = 2.0
REQUEST = b"KV/1.0 GET nothing\n"


def measure(context: ExperimentContext) -> Iterator[Point]:
    """Connect more and more clients at once to a new server."""
    with context.serving() as server:
        for clients in QUICK if context.profile.quick else FULL:
            took_us, whole_s = storm(server.port, clients)
            errors = {"unanswered connections": clients - len(took_us)} if len(took_us) < clients else {}
            figures: dict[str, float] = {"accepted_per_s": len(took_us) / whole_s}
            if len(took_us) > 1:
                cuts = statistics.quantiles(took_us, n=100)
                figures |= {"first_reply_p50_us": cuts[49], "first_reply_p99_us": cuts[98]}
            yield Point(clients, figures, errors)


def storm(port: int, clients: int) -> tuple[list[float], float]:
    """Connect all at once; return how long each waited for its first reply, in microseconds, and seconds for all."""
    took_us: list[float] = []
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as waiting:
        begun_s = last_s = time.perf_counter()
        for _ in range(clients):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", port))
            waiting.register(sock, selectors.EVENT_WRITE, time.perf_counter())
        while waiting.get_map() and time.perf_counter() - begun_s < WAIT_S:
            ready = waiting.select(QUIET_S)
            if not ready:
                break
            for key, events in ready:
                sock = key.fileobj  # type: ignore[assignment]
                try:
                    if events & selectors.EVENT_WRITE:
                        sock.send(REQUEST)
                        waiting.modify(sock, selectors.EVENT_READ, key.data)
                        continue
                    waiting.unregister(sock)
                    if sock.recv(100):
                        last_s = time.perf_counter()
                        took_us.append((last_s - key.data) * 1e6)
                except OSError:
                    with contextlib.suppress(KeyError):
                        waiting.unregister(sock)
        return took_us, max(last_s - begun_s, 1e-6)


def findings(seen: Seen) -> Iterator[Statement]:
    """Say which model accepts fastest, which slowest, and which leave clients without an answer."""
    most = max(seen.xs())
    ranked = [
        (name, rate)
        for name, rate in seen.ranking("accepted_per_s", at=most, lowest_first=False)
        if not seen.errors(name, most)
    ]
    if len(ranked) > 1:
        (best, fastest), (last, slowest) = ranked[0], ranked[-1]
        yield Statement(
            f"Of {most:,.0f} clients at once {label_of(best)} answered {fastest.median:,.0f} per second, "
            f"{label_of(last)} {slowest.median:,.0f}, {times(fastest.median / slowest.median)} fewer."
        )
    out = [name for name in seen.contestants if seen.errors(name, most)]
    if out:
        yield Statement(f"Some clients of {named(out)} were never answered.")
