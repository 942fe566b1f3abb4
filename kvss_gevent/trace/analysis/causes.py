"""Finds for every part of a request which client it waited for, and names only causes that were measured.

These are causes: another call on the same thread, a thread that held the lock of the same process, an idle client that
kept the thread, a run delay that the kernel counted, and work of the loop itself. A call in another process is never a
cause. A wait that nothing explains is called unknown, or, if it is long, a stop of the server.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from kvss_gevent.trace.analysis.holds import Hold, busy, locked, overlaps
from kvss_gevent.trace.analysis.parts import Call, Owner, Span, TracedRequest, inside
from kvss_gevent.trace.events import What
from kvss_gevent.trace.scenes.recording import Recording

SHORT_NS = 1_000_000
"""A shorter wait may come from the loop and the kernel; a longer one needs a cause."""
OFF_NS = 150_000
"""A call whose CPU time was so much less than its length was interrupted; a smaller difference is the clocks' error."""
LARGE_REPLY_BYTES = 64 << 10


class Why(StrEnum):
    """The kind of cause for which a request waited."""

    SELF = "self"
    """No wait for others: it is the request's own time."""
    TURN = "turn"
    """The thread served another client."""
    HELD = "held"
    """The thread belonged to another client, which may have been idle."""
    LOCK = "lock"
    """Another thread of the process had the lock, the interpreter's or the model's."""
    CORE = "core"
    """The thread was ready and had no core; the kernel counts this."""
    START = "start"
    """The process or the thread for this client was being made."""
    LOOP = "loop"
    """The thread worked outside of conversations: it accepted, received, sent, or polled."""
    OFF = "off"
    """The thread did not run although it waited for no lock and no core: it was stopped from outside."""
    UNKNOWN = "unknown"
    """Nothing that was measured explains it: wake-ups, and times below the clocks' resolution."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A piece of a request's time: its owner, why it waited, and for which client (who, 0 for none).

    shares: for a call that was interrupted, (owner, nanoseconds, client) without the lock, without a core, or stopped;
    where they lie in the stretch is not known.
    """

    owner: Owner
    why: Why
    who: int
    began_ns: int
    ended_ns: int
    shares: tuple[tuple[Owner, int, int], ...] = ()

    @property
    def ns(self) -> int:
        """How long it is."""
        return self.ended_ns - self.began_ns


ONE_AT_A_TIME = ("sequential", "threads", "pool", "fork", "prefork")
"""The models in which a thread belongs to one client until it leaves. In an event loop an idle client holds nothing."""

MAKES = ("threads", "fork")
"""The models that make a thread or a process for each client."""

Thread = tuple[int, int]
"""A thread: (slot of its process, its id)."""


class Causes:
    """Knows what the threads of one recording did, and cuts requests into stretches with causes."""

    def __init__(self, recording: Recording, calls: list[Call]) -> None:
        self._model = recording.model
        self._keeps = recording.model in ONE_AT_A_TIME
        self._left_ns = recording.played.left_ns
        self._holds: dict[Thread, list[Hold]] = defaultdict(list)
        self._inside: dict[int, list[tuple[Hold, int]]] = defaultdict(list)
        self._opened: dict[Thread, list[Hold]] = defaultdict(list)
        self._made_ns: dict[tuple[int, int], int] = {}
        self._readings: dict[Thread, list[tuple[int, int, int]]] = defaultdict(list)
        """(time, run delay, CPU time) of each thread."""
        self._forks: dict[int, list[Hold]] = defaultdict(list)
        self._born: dict[int, Hold] = {}
        self._read(recording, calls)

    def _read(self, recording: Recording, calls: list[Call]) -> None:
        clients = {(call.noted.process, call.noted.conversation): call.client for call in calls}
        began: dict[Thread, list[int]] = defaultdict(list)
        for call in calls:
            began[call.place].append(call.noted.began_ns)
        for call in calls:
            self._holds[call.place] += busy(call, began[call.place])
            self._inside[call.noted.process] += [(hold, call.thread) for hold in locked(call)]
        for one in recording.noted:
            client = clients.get((one.process, one.conversation), 0)
            if one.what is What.OPEN:
                place = (one.process, one.bytes_in)
                self._opened[place].append(Hold(one.began_ns, one.ended_ns, client))
                self._made_ns.setdefault((one.process, one.conversation), one.began_ns)
                self._readings[place].append((one.began_ns, one.began_delay_ns, one.began_cpu_ns))
            elif one.what is What.BORN:
                owner = next((who for (process, _), who in clients.items() if process == one.process), 0)
                self._born[one.process] = Hold(one.began_ns, one.ended_ns, owner)
            elif one.what is What.FORK:
                self._forks[one.process].append(Hold(one.began_ns, one.ended_ns, 0))
        for call in calls:
            self._readings[call.place] += [
                (call.noted.began_ns, call.noted.began_delay_ns, call.noted.began_cpu_ns),
                (call.noted.ended_ns, call.noted.ended_delay_ns, call.noted.ended_cpu_ns),
            ]
        for place, readings in self._readings.items():
            thread = place[1]
            readings += [(at_ns, *times[thread]) for at_ns, times in recording.played.looks if thread in times]
            readings.sort()
        whose = {born.began_ns: born.client for born in self._born.values()}
        for process, forks in self._forks.items():
            self._forks[process] = [Hold(f.began_ns, f.ended_ns, whose.get(f.began_ns, 0)) for f in forks]

    def stretches(self, request: TracedRequest) -> list[Stretch]:
        """Return the stretches of a request; they cover its whole time."""
        return [stretch for span in request.spans for stretch in self._of(request, span)]

    def _of(self, request: TracedRequest, span: Span) -> Iterator[Stretch]:
        who = request.asked.client
        if span.owner is Owner.SERVED and span.call:
            yield Stretch(span.owner, Why.SELF, who, span.began_ns, span.ended_ns, self._shares(span))
        elif span.owner in (Owner.STORE, Owner.BLOCKED) and span.call:
            yield Stretch(span.owner, Why.SELF, who, span.began_ns, span.ended_ns, self._late(span, span.call))
        elif span.owner in (Owner.QUEUE, Owner.SLICE, Owner.REPLY) and span.call and span.ns > 0:
            yield from self._waiting(who, span, span.call)
        else:
            yield Stretch(span.owner, Why.SELF, who, span.began_ns, span.ended_ns)

    def _shares(self, span: Span) -> tuple[tuple[Owner, int, int], ...]:
        """Return the shares of an interrupted call, if this span is the longest of its own parts; else none."""
        call = span.call
        assert call is not None
        own = [one for one in inside(call) if one.owner is Owner.SERVED]
        off_ns = call.own_ns - call.own_cpu_ns
        if off_ns < OFF_NS or max(own, key=lambda one: one.ns).began_ns != span.began_ns:
            return ()
        off_ns = min(off_ns, span.ns)
        core_ns = min(call.noted.ended_delay_ns - call.noted.began_delay_ns, off_ns)
        others = overlaps(self._others(call), span.began_ns, span.ended_ns, call.client)
        rest_ns = off_ns - core_ns
        shares = [(Owner.CORE, core_ns, 0)]
        if others:
            shares.append((Owner.LOCK, rest_ns, max(others, key=lambda one: one.ended_ns - one.began_ns).client))
        else:
            shares.append((Owner.STOPPED, rest_ns, 0))
        return tuple(share for share in shares if share[1] > 0)

    def _late(self, span: Span, call: Call) -> tuple[tuple[Owner, int, int], ...]:
        """Return the share of a wait inside a call in which its thread was ready again but had no core."""
        if overlaps(self._holds[call.place], span.began_ns, span.ended_ns, call.client):
            return ()  # the thread served others meanwhile, so its run delay does not belong to this call
        noted = next(one for one in call.carved if one.began_ns == span.began_ns)
        delay_ns = min(noted.ended_delay_ns - noted.began_delay_ns, span.ns)
        return ((Owner.CORE, delay_ns, 0),) if delay_ns > OFF_NS else ()

    def _waiting(self, who: int, span: Span, call: Call) -> Iterator[Stretch]:
        """Yield the stretches of a wait: first causes whose time is known, then run delay, then the rest."""
        found: list[Stretch] = []
        if span.owner is Owner.QUEUE:
            found += self._before_made(who, span, call)
        found = _filled(span, found, overlaps(self._holds[call.place], span.began_ns, span.ended_ns, who), Why.TURN)
        found = _filled(span, found, overlaps(self._others(call), span.began_ns, span.ended_ns, who), Why.LOCK)
        for began_ns, ended_ns in list(_gaps(span, found)):
            found += self._unplaced(who, span, call, began_ns, ended_ns)
        yield from self._with_late_delay(span, call, sorted(found, key=lambda one: one.began_ns))

    def _with_late_delay(self, span: Span, call: Call, found: list[Stretch]) -> Iterator[Stretch]:
        """Yield the stretches; those without a cause become waits for a core, as long as the kernel's count allows.

        A thread's run delay is read less often than it changes, so its sum over a span is known better than its part
        in one gap.
        """
        readings = self._readings[call.place]
        before = bisect_right(readings, (span.began_ns, 1 << 63, 0)) - 1
        after = bisect_left(readings, (span.ended_ns, 0, 0))
        left_ns = 0
        if before >= 0 and after < len(readings):
            left_ns = readings[after][1] - readings[before][1] - sum(one.ns for one in found if one.why is Why.CORE)
        for one in found:
            if left_ns <= 0 or one.why not in (Why.UNKNOWN, Why.OFF):
                yield one
                continue
            until_ns = min(one.began_ns + left_ns, one.ended_ns)
            left_ns -= until_ns - one.began_ns
            yield Stretch(one.owner, Why.CORE, 0, one.began_ns, until_ns)
            if until_ns < one.ended_ns:
                why, whose = self._left_over(call.client, span, call, one.ended_ns - until_ns)
                yield Stretch(one.owner, why, whose, until_ns, one.ended_ns)

    def _unplaced(self, who: int, span: Span, call: Call, began_ns: int, ended_ns: int) -> Iterator[Stretch]:
        """Yield the stretches of a gap in which the thread served no client: amounts from its clocks, in a row."""
        readings = self._readings[call.place]
        before = bisect_right(readings, (began_ns, 1 << 63, 0)) - 1
        after = bisect_left(readings, (ended_ns, 0, 0))
        amounts: list[tuple[Why, int, int]] = []
        if before < 0 and span.owner is Owner.QUEUE:
            # The thread did not exist yet, or its clocks had not been read: its run delay counts from its start.
            delay_ns = readings[after][1] if after < len(readings) else 0
            rest = (Why.START, who) if self._model in MAKES else (Why.UNKNOWN, 0)
            amounts = [(Why.CORE, 0, delay_ns), (*rest, ended_ns)]
        elif after < len(readings):
            _, delay_ns, cpu_ns = readings[after]
            amounts = [
                (Why.CORE, 0, delay_ns - readings[before][1]),
                (Why.LOOP, 0, cpu_ns - readings[before][2]),
            ]
        at_ns = began_ns
        for why, whose, ns in amounts:
            to_ns = min(at_ns + max(ns, 0), ended_ns)
            if to_ns > at_ns:
                yield Stretch(span.owner, why, whose, at_ns, to_ns)
                at_ns = to_ns
        if at_ns < ended_ns:
            why, whose = self._left_over(who, span, call, ended_ns - at_ns)
            yield Stretch(span.owner, why, whose, at_ns, ended_ns)

    def _left_over(self, who: int, span: Span, call: Call, left_ns: int) -> tuple[Why, int]:
        if span.owner is not Owner.QUEUE and call.noted.bytes_out >= LARGE_REPLY_BYTES:
            return Why.SELF, who  # the kernel's buffers are full of its replies
        return (Why.OFF, 0) if left_ns > SHORT_NS and span.owner is Owner.QUEUE else (Why.UNKNOWN, 0)

    def _before_made(self, who: int, span: Span, call: Call) -> list[Stretch]:
        """Return the stretches until the conversation was made: a client held its thread, or its process was forked."""
        noted = call.noted
        made_ns = min(self._made_ns[noted.process, noted.conversation], span.ended_ns)
        if made_ns <= span.began_ns:
            return []
        until = Span(span.owner, span.began_ns, made_ns)
        born = self._born.get(noted.process)
        if born and born.client == who and born.began_ns < made_ns:
            parents = [fork for forks in self._forks.values() for fork in forks]
            found = _filled(until, [], overlaps(parents, until.began_ns, born.began_ns, who), Why.TURN)
            own = Hold(max(born.began_ns, until.began_ns), made_ns, who)
            return _filled(until, found, [own], Why.START)
        if not self._keeps:
            return []
        keepers = [hold for hold in self._keepers(call.place, made_ns) if hold.client != who]
        return _filled(until, [], keepers, Why.HELD)

    def _keepers(self, place: Thread, made_ns: int) -> Iterator[Hold]:
        """Yield the clients that kept a thread, each from its own conversation's start to the start of the next one."""
        opened = [one for one in self._opened[place] if one.began_ns <= made_ns]
        for holder, following in pairwise(opened):
            others = overlaps(self._holds[place], holder.began_ns, following.began_ns, holder.client)
            left_ns = self._left_ns.get(holder.client, 0)
            if not others and holder.began_ns < left_ns < following.began_ns:
                yield Hold(holder.began_ns, following.began_ns, holder.client)

    def _others(self, call: Call) -> list[Hold]:
        """Return when other threads of the same process held the lock, and for which clients."""
        return [hold for hold, thread in self._inside[call.noted.process] if thread != call.thread]


def _gaps(span: Span, found: Iterable[Stretch]) -> Iterator[tuple[int, int]]:
    """Yield the times of a span that no stretch covers."""
    at_ns = span.began_ns
    for one in sorted(found, key=lambda one: one.began_ns):
        if one.began_ns > at_ns:
            yield at_ns, one.began_ns
        at_ns = max(at_ns, one.ended_ns)
    if at_ns < span.ended_ns:
        yield at_ns, span.ended_ns


def _filled(span: Span, found: list[Stretch], holds: list[Hold], why: Why) -> list[Stretch]:
    """Return the stretches, and new ones for holds in the gaps between them."""
    for hold in sorted(holds, key=lambda one: one.began_ns):
        for began_ns, ended_ns in list(_gaps(span, found)):
            from_ns, to_ns = max(began_ns, hold.began_ns), min(ended_ns, hold.ended_ns)
            if from_ns < to_ns:
                found = [*found, Stretch(span.owner, why, hold.client, from_ns, to_ns)]
    return found
