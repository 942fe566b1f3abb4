"""Times calls of a conversation, for the histograms and the slow log. For most calls it reads no clock.

Reading a clock before and after each call would cost more than all the rest. So a thread reads the clock every few
milliseconds and sets a mark. If the mark has changed when a call ends, the call may have been long, and only then the
clock is read. The begin of the call is not known exactly: it is not before the earlier mark, and not before the turn of
the loop began. So a hold is shown as up to one reading too long.

The histogram has every call of a quiet server. Of a busy server it has one call in SAMPLED, which counts as that many.
A call that is counted is timed exactly. Seconds are floats here, because Python subtracts and compares floats in a
fifth of the time that integers take.

A call that may wait, for a store or a password, does not hold the loop meanwhile. Its wait for the store is known. If
the loop turned at any other time, it is unknown how long the call held it, so the call is not reported. Each such call
is timed exactly.
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
    """Times calls. on_hold is told of those that held the loop for more than set_limit has said; none at first.

    loop is gevent's; now and wall are the monotonic clock and that of the loop, in seconds.
    """

    def __init__(  # noqa: PLR0915 - functions around common variables: attributes of self would cost as much as a clock
        self,
        on_hold: OnHold,
        loop: Any,
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.times = HandlingTimes()
        self.waits: dict[Any, WaitTime] = {}
        """By greenlet."""
        waits, add = self.waits, self.times.add
        limit_s, uncounted = math.inf, 1
        mark_s, attended_s = 0.0, 0.0

        def note_end(client: ObservedClient, data: bytes, held_s: float, ended_s: float) -> None:
            nonlocal mark_s, attended_s
            attended_s = ended_s
            if limit_s >= 0:
                mark_s = ended_s  # the next call began after this
            if held_s > limit_s:
                on_hold(client, data, int(held_s * NS), int(ended_s * NS))

        def attend(client: ObservedClient, data: bytes, began_mark_s: float) -> None:
            """Check whether a call that ends now held the loop."""
            ended_s = now()
            earliest_s = attended_s if math.isnan(began_mark_s) else began_mark_s
            turn_s = ended_s - (wall() - loop.now())
            note_end(client, data, max(ended_s - max(earliest_s, turn_s), 0.0), ended_s)

        def timed(client: ObservedClient, call: Call) -> Call:
            exact = timed_exactly(client, call)

            def receive(data: bytes) -> bytes:
                nonlocal uncounted
                uncounted -= 1
                if not uncounted:
                    return exact(data)
                began_mark_s = mark_s
                replies = call(data)
                if mark_s != began_mark_s:
                    attend(client, data, began_mark_s)
                return replies

            return receive

        def timed_exactly(client: ObservedClient, call: Call) -> Call:
            def receive(data: bytes) -> bytes:
                nonlocal uncounted
                waited = waits[getcurrent()] = WaitTime(client)
                turn, began_s = loop.iteration, now()
                try:
                    replies = call(data)
                finally:
                    del waits[getcurrent()]
                ended_s = now()
                uncounted -= 1
                if uncounted <= 0:
                    uncounted = add(data, ended_s - began_s)
                held_s = ended_s - began_s - waited.ns / NS if loop.iteration - turn == waited.turns else 0.0
                note_end(client, data, held_s, ended_s)
                return replies

            return receive

        def look() -> None:
            nonlocal mark_s
            mark_s = now()
            if limit_s < 0:
                mark_s = math.nan  # NaN is not equal even to itself, so each call is timed

        def set_limit(ns: int) -> None:
            nonlocal limit_s
            limit_s = ns / NS
            look()

        self.timed = timed
        self.timed_exactly = timed_exactly
        self.look = look
        """A thread calls this several times in each limit."""
        self.set_limit = set_limit

    def waited(self, ns: int, turns: int) -> ObservedClient | None:
        """Note that the call of the current greenlet waited for the store; return whose call it is."""
        waited = self.waits.get(getcurrent())
        if waited is None:
            return None
        waited.ns += ns
        waited.turns += turns
        return waited.client
