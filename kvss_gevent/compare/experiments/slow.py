"""Experiment 5: how long clients wait beside others that send a line very slowly, or do not read their replies."""

import contextlib
import socket
from collections.abc import Callable, Iterator

import gevent
import gevent.socket

from kvss_gevent.compare.experiments import Panel, Statement
from kvss_gevent.compare.measuring.contestant import CLIENTS, named
from kvss_gevent.compare.measuring.experiment_context import ExperimentContext
from kvss_gevent.compare.rows import Point
from kvss_gevent.compare.summary import Seen
from kvss_gevent.compare.words import milliseconds

TITLE = "Latency beside slow clients"
VARIES = "slow clients: half of them drip one line, half do not read their replies"
TEACHES = (
    "A slow client costs what it occupies. If that is a place in a pool, a few slow clients keep all others out, "
    "although they send almost nothing. If it is only a buffer, no other client notices."
)
BY_HAND = "printf 'KV/1.0 PUT half' | nc 127.0.0.1 5050 & kvss bench 127.0.0.1:5050 --connections 4"
CORE = False
SCENE = "slow"
LIMIT_S = 120.0
PANELS = (
    Panel(
        "p99_us",
        "p99 of other clients, microseconds",
        log_x=False,
        title="Who notices clients that drip or do not read",
    ),
)

QUICK = (0, 10, 50)
FULL = (0, 10, 50, 200)
RATE, USERS = 500.0, 4
DRIP_S = 0.2
DEAF_REQUESTS = 2000
"""GETs of 64 KiB whose replies are not read: far more than fits into the kernel's buffers."""


def measure(context: ExperimentContext) -> Iterator[Point]:
    """Send requests at a steady rate beside more and more slow clients."""
    for slow in QUICK if context.profile.quick else FULL:
        with context.serving() as server, contextlib.ExitStack() as stack:
            dripping = [connect(server.port, stack) for _ in range(slow - slow // 2)]
            deaf = [connect(server.port, stack) for _ in range(slow // 2)]
            if deaf:
                deaf[0].sendall(b"KV/1.0 PUT big " + b"x" * 65536 + b"\n")
            for sock in deaf:
                sock.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    sock.send(b"KV/1.0 GET big\n" * DEAF_REQUESTS)
            gevent.sleep(0.2)
            point, _ = context.offer(
                server, slow, rate=RATE, users=USERS, line=b"KV/1.0 PUT probe x", beside=[drip(dripping)]
            )
            yield point


def connect(port: int, stack: contextlib.ExitStack) -> socket.socket:
    """Connect one slow client."""
    return stack.enter_context(socket.create_connection(("127.0.0.1", port), 2))


def drip(socks: list[socket.socket]) -> Callable[[], None]:
    """Return a function that sends a byte of an endless line on every socket, again and again."""

    def go() -> None:
        data = b"KV/1.0 PUT k "
        while True:
            for sock in socks:
                with contextlib.suppress(OSError):
                    sock.send(data, socket.MSG_DONTWAIT)
            data = b"x"
            gevent.sleep(DRIP_S)

    return go


def findings(seen: Seen) -> Iterator[Statement]:
    """Say in which models clients notice slow clients."""
    most = max(seen.xs())
    out, unmoved = [], []
    for name in seen.contestants:
        alone, beside = seen.get(name, 0, "p99_us"), seen.get(name, most, "p99_us")
        if beside is None or seen.errors(name, most).get("unanswered requests"):
            out.append(name)
        elif alone and beside.median < 5 * alone.median:
            unmoved.append(name)
    if out:
        yield Statement(
            f"Beside {most:,.0f} slow clients, requests to {named(out)} went unanswered.",
            {"sequential", "pool"} & set(seen.contestants) <= set(out) if most > CLIENTS else None,
            "slow clients fill sequential and pool",
        )
    if unmoved:
        worst = max(found.median for name in unmoved if (found := seen.get(name, most, "p99_us")))
        yield Statement(f"{named(unmoved)} kept a p99 of {milliseconds(worst)} or better.")
