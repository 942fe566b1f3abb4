"""Times every call of a conversation, at the cost of two looks at a clock: 0.2 us, 2.5 % of a request at depth 1.

A call that may wait, for a store or a password, does not hold the loop meanwhile. What it waited for the store is
known; where the loop turned at any other time, nobody can say how long the call held it, and it is not accused.
"""

import time
from collections.abc import Callable
from typing import Any, Protocol

from greenlet import getcurrent

from kvss_gevent.observe.latency_buckets import BITS

Call = Callable[[bytes], bytes]
"""A conversation's receive or proceed."""


class ObservedClient(Protocol):
    """One connection, as far as observers know it."""

    sock: Any
    address: Any


OnHold = Callable[[ObservedClient, bytes, int, int], None]
"""Told of a call that held the loop: whose it was, what it was given, how long it held, when it ended; in ns."""


class WaitTime:
    """What a call that is under way has waited for the store, and how often the loop turned meanwhile."""

    __slots__ = ("client", "ns", "turns")

    def __init__(self, client: ObservedClient) -> None:
        self.client = client
        self.ns = self.turns = 0


class Timing:
    """Times calls. on_hold is told of those that held the loop for more than set_limit has said; none at first."""

    def __init__(self, on_hold: OnHold) -> None:
        classes = self.classes = [0] * BITS
        """How many calls took how long; see histogram.py."""
        self.waits: dict[Any, WaitTime] = {}
        """By greenlet."""
        total_ns, limit_ns = 0, 1 << BITS
        now = time.monotonic_ns

        # Functions around common variables, for to look up attributes of self would cost as much as a clock.
        def timed(client: ObservedClient, call: Call) -> Call:
            def receive(data: bytes) -> bytes:
                nonlocal total_ns
                began_ns = now()
                replies = call(data)
                took_ns = now() - began_ns
                total_ns += took_ns
                classes[took_ns.bit_length()] += 1
                if took_ns > limit_ns:
                    on_hold(client, data, took_ns, began_ns + took_ns)
                return replies

            return receive

        def timed_where_it_may_wait(client: ObservedClient, call: Call, loop: Any) -> Call:
            waits = self.waits

            def receive(data: bytes) -> bytes:
                nonlocal total_ns
                waited = waits[getcurrent()] = WaitTime(client)
                turn, began_ns = loop.iteration, now()
                try:
                    replies = call(data)
                finally:
                    del waits[getcurrent()]
                took_ns = now() - began_ns
                total_ns += took_ns
                classes[took_ns.bit_length()] += 1
                held_ns = took_ns - waited.ns if loop.iteration - turn == waited.turns else 0
                if held_ns > limit_ns:
                    on_hold(client, data, held_ns, began_ns + took_ns)
                return replies

            return receive

        def set_limit(ns: int) -> None:
            nonlocal limit_ns
            limit_ns = ns

        self.timed = timed
        self.timed_where_it_may_wait = timed_where_it_may_wait
        self.set_limit = set_limit
        self.total: Callable[[], int] = lambda: total_ns
        """Returns the time of all calls together, in ns."""

    def waited(self, ns: int, turns: int) -> ObservedClient | None:
        """Note that the call of the current greenlet waited for the store; return whose call it is."""
        waited = self.waits.get(getcurrent())
        if waited is None:
            return None
        waited.ns += ns
        waited.turns += turns
        return waited.client
