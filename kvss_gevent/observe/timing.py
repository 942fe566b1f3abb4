"""Times calls of a conversation, for the histograms and the slow log.

*Histograms.* On a quiet server, every call is timed. On a busy server, a timer begins a sample 10 times a second. A
sample has the calls of about one turn of the loop. It stands for all calls since the sample before: their number is
known from the counters.

*Slow log.* Between two samples, only calls that can hold the loop for long are timed. A look-up cannot. A short packet
cannot either, if the store is in memory and not very large; if one does, `turn_watch.py` tells. While an entry of the
log is open, every call is timed. A thread that looks at the clock 100 times a second in place of this costs more.

*Calls that may wait.* A call that waits for a store or a password does not hold the loop meanwhile. The time for which
it waited for the store is known and subtracted. If the loop turned at any other time, nobody can say how long the call
held it. Such a call gets no entry.

Times are seconds as floats. Python subtracts and compares floats in a fifth of the time that it takes for nanoseconds
as ints.
"""

import math
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from greenlet import getcurrent

from kvss_gevent.observe.latency_buckets import BITS
from kvss_gevent.observe.shared_figures import HANDLED

Call = Callable[[bytes], bytes]
"""A conversation's receive or proceed."""


class ObservedClient(Protocol):
    """One connection, as observers see it."""

    sock: Any
    address: Any


NS: Final = 1e9
BUSY_CALLS: Final = 500
"""With more calls in a second than this, samples are taken. Counting this many costs at most 0.1 % of a core."""
NS_A_BYTE: Final = 1000
"""A packet takes less for each of its bytes: the shortest request has 13 and takes 2 to 5 us, on a slow machine 10."""
NS_A_KEY: Final = 100
"""A PUT takes less for each key in the table. The table grows all at once: with 1,000,000 keys, in 32 ms."""
OPERATOR_NS: Final = 10_000_000
"""STATS and SLOWLOG take less, although they are short."""
SAMPLE_S: Final = 0.1
"""How often a sample begins. Its code is in no cache by then: each sample takes 0.1 ms."""
SAMPLE_CALLS: Final = 16
"""A sample ends after this many calls."""
SAMPLE_TURNS: Final = 2
"""A sample ends in this turn of the loop after the one in which it began."""
HEAD_BYTES: Final = len(b"KV/1.0 GET ")
_PLACES: Final = {
    b"": HANDLED.index("several"),  # proceed: the rest of a long pipeline
    **{b"KV/1.0 %b " % name.encode(): place for place, name in enumerate(("GET", "PUT", "DEL"))},
}
_OTHER, _SEVERAL = HANDLED.index("other"), HANDLED.index("several")

OnHold = Callable[[ObservedClient, bytes, int, int], None]
"""Told of a call that held the loop: whose it was, what it was given, how long it held, when it ended; in ns."""
Tell = Callable[[ObservedClient, bytes, float, float], None]
"""Told of a call: whose it was, what it was given, when it began, how long it took; in seconds."""


NO_BYTES: Final = -1
"""No packet is so short."""
ANY_BYTES: Final = 1 << 29
"""Every packet is shorter. Python compares larger ints more slowly."""


class Stopwatch:
    """What the server's loop reads before each call: whether to time it, and whom to tell if it took over limit_s."""

    __slots__ = ("limit_s", "short_bytes", "tell", "times_all")

    def __init__(self, tell: Tell) -> None:
        self.times_all = False
        """Whether look-ups are timed, too, although they cannot take long."""
        self.short_bytes = ANY_BYTES
        """Packets of at most this length are not timed."""
        self.limit_s = math.inf
        self.tell = tell


NEVER_ON: Final = Stopwatch(lambda *_: None)
"""The stopwatch of a server that is not observed."""


class WaitTime:
    """For a call under way: how long it has waited for the store, and how often the loop turned meanwhile."""

    __slots__ = ("client", "ns", "turns")

    def __init__(self, client: ObservedClient) -> None:
        self.client = client
        self.ns = self.turns = 0


class HandlingTimes:
    """How many calls took how long, for each of HANDLED: classes as in latency_buckets.py, and the sum in ns.

    commands returns how many requests were answered so far. Counts are floats, because a call in a sample may count for
    any number of calls.
    """

    def __init__(self, commands: Callable[[], int]) -> None:
        self.classes = [[0.0] * BITS for _ in HANDLED]
        self.total_ns = [0.0] * len(HANDLED)
        self.all_count = True
        """Whether every call is counted; otherwise only those in samples."""
        self._commands = commands
        self._sample: list[tuple[int, int]] = []
        self._sample_from = self._sampled_to = 0
        self._this_second = 0.0

    def add(self, data: bytes, took_s: float) -> int:
        """Count a call that was given data; return how many calls the present sample has."""
        place = _SEVERAL if data.find(b"\n", 0, -1) >= 0 else _PLACES.get(data[:HEAD_BYTES], _OTHER)
        self._sample.append((place, int(took_s * NS)))
        if not self.all_count:
            return len(self._sample)
        self._count(1.0)
        if self._this_second > BUSY_CALLS:
            self.all_count = False
            self._sampled_to = self._commands()
        return 0

    def begin_sample(self) -> None:
        """Begin a sample. The sample before it has ended, or has no calls."""
        self._sample_from = self._commands()

    def end_sample(self) -> None:
        """Count the calls of a sample for all since the sample before."""
        now = self._commands()
        inside = now - self._sample_from
        if inside > 0:
            self._count(max((now - self._sampled_to) / inside, 1.0))
            self._sampled_to = now
        else:
            self._count(1.0)

    def _count(self, weight: float) -> None:
        for place, took_ns in self._sample:
            self.classes[place][took_ns.bit_length()] += weight
            self.total_ns[place] += took_ns * weight
        self._this_second += weight * len(self._sample)
        self._sample.clear()

    def begin_second(self) -> None:
        """Count every call again if there were few in the last second."""
        if self._this_second <= BUSY_CALLS:
            self.all_count = True
        self._this_second = 0.0


class Timing:
    """Times calls. on_hold is told of calls that held the loop for longer than a limit, which is not set at first."""

    def __init__(self, on_hold: OnHold, loop: Any, commands: Callable[[], int]) -> None:
        self.times = HandlingTimes(commands)
        self.stopwatch = Stopwatch(self._tell)
        self.waits: dict[Any, WaitTime] = {}
        """By greenlet."""
        self._on_hold, self._loop = on_hold, loop
        self._slow_s = math.inf
        self._short_bytes = NO_BYTES
        self._samples = False
        self._sample_ends = 0
        self._set_stopwatch()

    def set_limit(self, ns: int) -> None:
        """Set the limit: on_hold is told of calls that held the loop for more than ns."""
        self._slow_s = ns / NS
        self._set_stopwatch()

    def begin_second(self) -> None:
        """Say that a second has begun."""
        self.times.begin_second()
        self._set_stopwatch()

    def leave_out_short(self, limit_ns: int, keys: int) -> None:
        """Leave out packets so short that they take less than limit_ns. keys: how many the table of replies has."""
        fits = limit_ns >= max(OPERATOR_NS, keys * NS_A_KEY)
        self._short_bytes = limit_ns // NS_A_BYTE if fits else NO_BYTES
        self._set_stopwatch()

    def tick(self) -> None:
        """Begin a sample, unless every call is counted. It has calls of this turn of the loop and of the next."""
        if not self.times.all_count and not self._samples:
            self._samples, self._sample_ends = True, self._loop.iteration + SAMPLE_TURNS
            self.times.begin_sample()
            self._set_stopwatch()

    def _set_stopwatch(self) -> None:
        stopwatch = self.stopwatch
        stopwatch.times_all = self.times.all_count or self._samples or self._slow_s < 0
        stopwatch.limit_s = -1.0 if stopwatch.times_all else self._slow_s
        if stopwatch.times_all:
            stopwatch.short_bytes = NO_BYTES
        else:
            stopwatch.short_bytes = self._short_bytes if self._slow_s < math.inf else ANY_BYTES

    def _tell(self, client: ObservedClient, data: bytes, began_s: float, took_s: float) -> None:
        self._tell_held(client, data, began_s, took_s, took_s)

    def _tell_held(self, client: ObservedClient, data: bytes, began_s: float, took_s: float, held_s: float) -> None:
        if self._samples:
            if self.times.add(data, took_s) >= SAMPLE_CALLS or self._loop.iteration >= self._sample_ends:
                self.times.end_sample()
                self._samples = False
                self._set_stopwatch()
        elif self.times.all_count:
            self.times.add(data, took_s)
            if not self.times.all_count:
                self._set_stopwatch()
        if held_s > self._slow_s:
            self._on_hold(client, data, int(held_s * NS), int((began_s + took_s) * NS))

    def timed(self, client: ObservedClient, call: Call) -> Call:
        """Return the same call, timed as the server's loop times `receive`."""
        stopwatch, now = self.stopwatch, time.monotonic

        def receive(data: bytes) -> bytes:
            began_s = now()
            replies = call(data)
            took_s = now() - began_s
            if took_s > stopwatch.limit_s:
                stopwatch.tell(client, data, began_s, took_s)
            return replies

        return receive

    def timed_where_it_may_wait(self, client: ObservedClient, call: Call) -> Call:
        """Return the same call, timed without its waits."""
        stopwatch, now, waits, loop = self.stopwatch, time.monotonic, self.waits, self._loop

        # A call may last longer than a sample. So every call is timed, and those that end in a sample are counted.
        def receive(data: bytes) -> bytes:
            waited = waits[getcurrent()] = WaitTime(client)
            turn, began_s = loop.iteration, now()
            try:
                replies = call(data)
            finally:
                del waits[getcurrent()]
            took_s = now() - began_s
            if took_s > stopwatch.limit_s:
                held_s = took_s - waited.ns / NS if loop.iteration - turn == waited.turns else 0.0
                self._tell_held(client, data, began_s, took_s, held_s)
            return replies

        return receive

    def waited(self, ns: int, turns: int) -> ObservedClient | None:
        """Note that the call of the current greenlet waited for the store; return whose call it is."""
        waited = self.waits.get(getcurrent())
        if waited is None:
            return None
        waited.ns += ns
        waited.turns += turns
        return waited.client
