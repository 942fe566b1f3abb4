"""Greenlets that check now and then for clients that are idle or too slow, and for keys that have ended.

One pass over all connections costs less than a timer for each request, and a limit of seconds need not be exact.
"""

import math
import time
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import gevent

from kvss_gevent.server.client_memory import ClientMemory
from kvss_gevent.server.connection import Connection, held_input
from kvss_gevent.settings.config import Config

SWEEP_INTERVAL_S = 1.0
SHORTEST_SWEEP_INTERVAL_S = 0.05
SWEEP_SLICE = 1000
"""Connections that are checked in one go, about 0.3 ms of work."""
LEAVE_SLICE = 50
"""Greenlets that are ended in one go, about 1 ms of work: a thousand at once would make others wait."""
STOOD_STILL_S = 1.0
"""If a pass comes this much too late, the server stood still, which is not the clients' fault."""
NEXT_TURN_S = 1e-6
"""A pause in which the event loop polls the sockets; gevent.sleep(0) ends before that."""
ADMISSION_S = 10.0
"""The longest time for a TLS handshake and a login (rule 14)."""

RECLAIM_INTERVAL_S = 0.2
RECLAIM_KEYS = 64
"""Keys that are forgotten between two readings of the clock: 0.1 ms of work."""
RECLAIM_SLICE_S = 0.001
"""The longest time for forgetting keys in one go. A number of keys is no bound: on a slow machine 500 took 2.5 ms."""
RECLAIM_LATEST_S = 0.002
"""Each go waits until the event loop is idle, but no longer than this."""


@runtime_checkable
class Reclaimed(Protocol):
    """A store that forgets ended keys only when it is told to; see MemoryStore."""

    def reclaim(self, most: int, /) -> bool: ...


def reclaim(store: Reclaimed) -> None:
    """Run as a greenlet: make the store forget ended keys, a few at a time."""
    hub = gevent.get_hub()
    while True:
        gevent.sleep(RECLAIM_INTERVAL_S)
        until_s = time.monotonic() + RECLAIM_SLICE_S
        while store.reclaim(RECLAIM_KEYS):
            if time.monotonic() < until_s:
                continue
            with gevent.Timeout(RECLAIM_LATEST_S, False):
                hub.wait(hub.loop.idle())
            until_s = time.monotonic() + RECLAIM_SLICE_S


def sweep(
    connections: set[Connection],
    read_config: Callable[[], Config],
    memory: ClientMemory,
    is_admitted: Callable[[Any], bool],
    hibernate: Callable[[Connection], object],
) -> None:
    """Run as a greenlet: end clients that are idle, or leave a line half-sent, for too long.

    hibernate is called with connections that have been quiet for long enough.
    """
    looked_s = time.monotonic()
    while True:
        config = read_config()
        limits_s = [
            limit_s for limit_s in (config.line_timeout_s, config.idle_timeout_s, config.hibernate_s) if limit_s
        ]
        pause_s = max(SHORTEST_SWEEP_INTERVAL_S, min(SWEEP_INTERVAL_S, min(limits_s, default=math.inf) / 4))
        gevent.sleep(pause_s)
        now_s = time.monotonic()
        late_s = now_s - looked_s - pause_s
        looked_s = now_s
        if late_s > STOOD_STILL_S:
            # Bytes that clients sent meanwhile have not been read yet, so this time does not count for them.
            for connection in connections:
                connection.line_since_s += late_s
                connection.quiet_since_s += late_s
                connection.opened_s += late_s
        leaving = 0
        for number, connection in enumerate(list(connections)):
            if number % SWEEP_SLICE == SWEEP_SLICE - 1:
                gevent.sleep(NEXT_TURN_S)
            if connection not in connections:
                continue  # it ended during a pause, so it must not be counted again
            if now_s - connection.opened_s >= ADMISSION_S and not (
                connection.transport.is_ready() and is_admitted(connection.session)
            ):
                connection.end(f"no handshake and login within {ADMISSION_S:g} s", reset=True)
            _look_at(connection, config, now_s)
            if not connection.sending:
                memory.note(connection, held_input(connection.session))
            rests = _may_rest(connection, config, now_s)
            if rests:
                hibernate(connection)
            if rests or connection.ended:
                leaving += 1
                if leaving % LEAVE_SLICE == 0:
                    gevent.sleep(NEXT_TURN_S)
        memory.give_back()


def _may_rest(connection: Connection, config: Config, now_s: float) -> bool:
    """Tell whether a client is quiet enough for --hibernate. A client with a half-sent line is not."""
    return (
        0 < config.hibernate_s <= now_s - connection.quiet_since_s
        and connection.wake is not None
        and connection.line is None
        and connection.session.quiet
        and not connection.sending
    )


def _look_at(connection: Connection, config: Config, now_s: float) -> None:
    session = connection.session
    line: object | None = None
    if not connection.sending:
        line = session.partial
        if line is None:
            line = connection.transport.partial()
    # The time of a line or record begins with its first byte: a client that sends the rest byte by byte gains no time.
    if line is not connection.line:
        connection.line = line
        connection.line_since_s = now_s
    elif line is not None and 0 < config.line_timeout_s <= now_s - connection.line_since_s:
        connection.end(f"a line or a TLS record stayed half-sent for {config.line_timeout_s:g} s")
    if not session.quiet or connection.sending:
        session.quiet = True
        connection.quiet_since_s = now_s
    elif 0 < config.idle_timeout_s <= now_s - connection.quiet_since_s:
        connection.end(f"no request for {config.idle_timeout_s:g} s")
