"""Times calls of a conversation, for the histograms and the slow log.

Into the histogram goes every call of a quiet server, and of a busy one one in SAMPLED, which counts as that many.
Without a slow log the others read no clock: two looks at it cost more than all the rest. With one, every call is timed,
and compared with the limit of the log. A thread that looks at the clock in their place, 100 times a second, costs more.
Seconds are floats here, for Python subtracts and compares those in a fifth of the time that it takes for nanoseconds.

A call that may wait, for a store or a password, does not hold the loop meanwhile. What it waited for the store is
known; where the loop turned at any other time, nobody can say how long the call held it, and it is not accused.
"""

import math
import time
from collections.abc import Callable
from random import getrandbits
from typing import Any, Final, Protocol

from greenlet import getcurrent

from kvss_gevent.observe.board import HANDLED
from kvss_gevent.observe.latency_buckets import BITS

Call = Callable[[bytes], bytes]
"""A conversation's receive or proceed."""


class ObservedClient(Protocol):
    """One connection, as observers see it."""

    sock: Any
    address: Any


NS: Final = 1e9
SAMPLED_BITS: Final = 6
SAMPLED: Final = 1 << SAMPLED_BITS
"""Of a busy server's calls, one in this many is counted, on average."""
BUSY_CALLS: Final = 500
"""With more calls in a second than this, calls are sampled. Counting this many costs at most 0.1 % of a core."""

HEAD_BYTES: Final = len(b"KV/1.0 GET ")
_PLACES: Final = {
    b"": HANDLED.index("several"),  # proceed: the rest of a long pipeline
    **{b"KV/1.0 %b " % name.encode(): place for place, name in enumerate(("GET", "PUT", "DEL"))},
}
_OTHER, _SEVERAL = HANDLED.index("other"), HANDLED.index("several")

OnHold = Callable[[ObservedClient, bytes, int, int], None]
"""Told of a call that held the loop: whose it was, what it was given, how long it held, when it ended; in ns."""


class WaitTime:
    """How long a call under way has waited for the store, and how often the loop turned meanwhile."""

    __slots__ = ("client", "ns", "turns")

    def __init__(self, client: ObservedClient) -> None:
        self.client = client
        self.ns = self.turns = 0


class HandlingTimes:
    """How many calls took how long, for each of HANDLED: classes as in latency_buckets.py, and the sum in ns."""

    def __init__(self) -> None:
        self.classes = [[0] * BITS for _ in HANDLED]
        self.total_ns = [0] * len(HANDLED)
        self.weight = 1
        """How many calls one counted call stands for."""
        self._counted = 0

    def add(self, data: bytes, took_s: float) -> int:
        """Count a call that took these bytes; return how many calls later the next one is counted."""
        took_ns = int(took_s * NS)
        place = _SEVERAL if data.find(b"\n", 0, -1) >= 0 else _PLACES.get(data[:HEAD_BYTES], _OTHER)
        weight = self.weight
        self.classes[place][took_ns.bit_length()] += weight
        self.total_ns[place] += took_ns * weight
        self._counted += weight
        if self._counted > BUSY_CALLS:
            self.weight = SAMPLED
        # At random: with clients that take turns, steps of one length would meet the same clients again and again.
        return 1 if self.weight == 1 else 2 * getrandbits(SAMPLED_BITS) + 1

    def begin_second(self) -> None:
        """Count every call again if there were few in the last second."""
        if self._counted <= BUSY_CALLS:
            self.weight = 1
        self._counted = 0


class Timing:
    """Times calls. on_hold is told of those that held the loop for more than set_limit has said; none at first."""

    def __init__(self, on_hold: OnHold) -> None:
        self.times = HandlingTimes()
        self.waits: dict[Any, WaitTime] = {}
        """By greenlet."""
        limit_s, uncounted = math.inf, 1
        now, add = time.monotonic, self.times.add

        # Functions around common variables, for to look up attributes of self would cost as much as a clock.
        def timed(client: ObservedClient, call: Call) -> Call:
            def receive(data: bytes) -> bytes:
                nonlocal uncounted
                began_s = now()
                replies = call(data)
                took_s = now() - began_s
                uncounted -= 1
                if not uncounted:
                    uncounted = add(data, took_s)
                if took_s > limit_s:
                    on_hold(client, data, int(took_s * NS), int((began_s + took_s) * NS))
                return replies

            return receive

        def timed_now_and_then(client: ObservedClient, call: Call) -> Call:
            counted = timed(client, call)

            def receive(data: bytes) -> bytes:
                nonlocal uncounted
                if uncounted == 1:
                    return counted(data)
                uncounted -= 1
                return call(data)

            return receive

        def timed_where_it_may_wait(client: ObservedClient, call: Call, loop: Any) -> Call:
            waits = self.waits

            def receive(data: bytes) -> bytes:
                nonlocal uncounted
                waited = waits[getcurrent()] = WaitTime(client)
                turn, began_s = loop.iteration, now()
                try:
                    replies = call(data)
                finally:
                    del waits[getcurrent()]
                took_s = now() - began_s
                uncounted -= 1
                if not uncounted:
                    uncounted = add(data, took_s)
                held_s = took_s - waited.ns / NS if loop.iteration - turn == waited.turns else 0.0
                if held_s > limit_s:
                    on_hold(client, data, int(held_s * NS), int((began_s + took_s) * NS))
                return replies

            return receive

        def set_limit(ns: int) -> None:
            nonlocal limit_s
            limit_s = ns / NS

        self.timed = timed
        self.timed_now_and_then = timed_now_and_then
        """For calls of which on_hold need not be told."""
        self.timed_where_it_may_wait = timed_where_it_may_wait
        self.set_limit = set_limit

    def waited(self, ns: int, turns: int) -> ObservedClient | None:
        """Note that the call of the current greenlet waited for the store; return whose call it is."""
        waited = self.waits.get(getcurrent())
        if waited is None:
            return None
        waited.ns += ns
        waited.turns += turns
        return waited.client
