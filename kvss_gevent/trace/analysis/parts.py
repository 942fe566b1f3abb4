"""Cuts the time of a request into parts, each with an owner. They follow each other, so their sum is the whole time.

A client's packet is paired with the calls that answered it by counting bytes: how much a connection has received and
returned before a call says which packet the call was about, wherever TCP has cut the stream.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from kvss_gevent.trace.events import What
from kvss_gevent.trace.ring import Noted
from kvss_gevent.trace.scenes.played import Asked
from kvss_gevent.trace.scenes.recording import Recording


class Owner(StrEnum):
    """What a part of a request's time was spent on."""

    UNSENT = "unsent"
    """The client has sent half of it and waits before it sends the rest."""
    WAY = "way"
    """On its way to the server."""
    QUEUE = "queue"
    """It has arrived and waits to be handled."""
    SERVED = "served"
    """The server handles it, on a processor."""
    BLOCKED = "blocked"
    """The server handles it, in a blocking call (SLEEP)."""
    LOCK = "lock"
    """The server handles it, but waits for the interpreter's lock."""
    CORE = "core"
    """The server handles it, but has no core."""
    STOPPED = "stopped"
    """The server handles it, but its process does not run at all."""
    STORE = "store"
    """It waits for the store."""
    SLICE = "slice"
    """It waits between two slices of its replies."""
    REPLY = "reply"
    """The reply is on its way to the client."""
    CLIENT = "client"
    """The reply has arrived, and the client does not read or is not awake."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a conversation, with the events inside it."""

    noted: Noted
    client: int
    thread: int
    inner: tuple[Noted, ...]

    @property
    def place(self) -> tuple[int, int]:
        """Where it ran: the slot of its process, and its thread."""
        return self.noted.process, self.thread

    @property
    def own_ns(self) -> int:
        """How long it took, without the waits inside: store and blocking calls."""
        return self.noted.wall_ns - sum(one.wall_ns for one in self.carved)

    @property
    def own_cpu_ns(self) -> int:
        """Its CPU time, without that of other calls on the thread while it waited inside."""
        return self.noted.cpu_ns - sum(one.cpu_ns for one in self.carved)

    @property
    def carved(self) -> tuple[Noted, ...]:
        """The waits inside: store and blocking calls."""
        return tuple(one for one in self.inner if one.what in (What.STORE, What.BLOCK))


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a request's time: its owner, begin and end, and the call that it is in or that ended it."""

    owner: Owner
    began_ns: int
    ended_ns: int
    call: Call | None = None

    @property
    def ns(self) -> int:
        """How long it is; a little below 0 if two clocks were read in the other order."""
        return self.ended_ns - self.began_ns


@dataclass(slots=True)
class TracedRequest:
    """One packet and its parts, in order."""

    asked: Asked
    calls: tuple[Call, ...]
    spans: list[Span] = field(default_factory=list)

    @property
    def total_ns(self) -> int:
        """The time from before the sending to the last byte of the reply."""
        return self.asked.received_ns - self.asked.began_ns


class UnpairedError(Exception):
    """No calls answer a packet: events are missing, and the recording cannot be trusted."""


def calls_of(recording: Recording) -> list[Call]:
    """Return all calls, each with its client and thread; client 0 does not belong to the scene."""
    threads: dict[tuple[int, int], int] = {}
    clients: dict[tuple[int, int], int] = {}
    inner: dict[tuple[int, int], list[Noted]] = defaultdict(list)
    for one in recording.noted:
        who = (one.process, one.conversation)
        if one.what is What.OPEN:
            threads[who] = one.bytes_in
        elif one.what is What.RECEIVE and who not in clients:
            clients[who] = _named_in(one.head)
        elif one.what in (What.STORE, What.BLOCK, What.COMPUTE):
            inner[who].append(one)
    calls = []
    for one in recording.noted:
        if one.what in (What.RECEIVE, What.PROCEED):
            who = (one.process, one.conversation)
            inside = tuple(
                found for found in inner[who] if one.began_ns <= found.began_ns and found.ended_ns <= one.ended_ns
            )
            calls.append(Call(one, clients.get(who, 0), threads[who], inside))
    return calls


def _named_in(head: bytes) -> int:
    _, found, rest = head.partition(b"client:")
    digits = rest.split(b"\n")[0]
    return int(digits) if found and digits.isdigit() else 0


def requests_of(recording: Recording, calls: list[Call]) -> list[TracedRequest]:
    """Return every packet with its parts. Raises UnpairedError if events were lost or a packet has no call."""
    if recording.lost:
        raise UnpairedError(f"{recording.lost} events were lost")
    by_client: dict[int, list[Call]] = defaultdict(list)
    for call in calls:
        by_client[call.client].append(call)
    requests = []
    for asked in recording.played.asked:
        own = tuple(_calls_about(asked, by_client[asked.client]))
        if not own:
            raise UnpairedError(f"no call answers {asked.label!r} of client {asked.client}")
        request = TracedRequest(asked, own)
        request.spans = [*_spans(request, recording.played.deaf_ns.get(asked.client, (0, 0)))]
        requests.append(request)
    return requests


def _calls_about(asked: Asked, calls: list[Call]) -> Iterator[Call]:
    """Yield the calls that received the packet's bytes or returned bytes of its reply; none if bytes are missing."""
    taken = returned = 0
    found = []
    for call in calls:
        taken_before, returned_before = taken, returned
        taken += call.noted.bytes_in
        returned += call.noted.bytes_out
        if taken > asked.first_byte and returned_before < asked.reply_end_byte:
            found.append(call)
        if taken_before >= asked.end_byte and returned_before >= asked.reply_end_byte:
            break
    if returned >= asked.reply_end_byte > 0 and taken >= asked.end_byte:
        yield from found


def _spans(request: TracedRequest, deaf_ns: tuple[int, int]) -> Iterator[Span]:
    asked, calls = request.asked, request.calls
    arrived_ns = min(asked.sent_first_ns, calls[0].noted.began_ns)
    yield Span(Owner.WAY, asked.began_ns, arrived_ns)
    yield Span(Owner.QUEUE, arrived_ns, calls[0].noted.began_ns, calls[0])
    for call, following in zip(calls, [*calls[1:], None], strict=True):
        yield from inside(call)
        if following is None:
            break
        began_ns, ended_ns = call.noted.ended_ns, following.noted.began_ns
        if following.noted.what is What.PROCEED:
            yield from _split(Span(Owner.SLICE, began_ns, ended_ns, following), deaf_ns)
            continue
        kept_ns = min(max(asked.rest_ns, began_ns), ended_ns)
        arrived_ns = min(max(asked.sent_ns, kept_ns), ended_ns)
        yield Span(Owner.UNSENT, began_ns, kept_ns)
        yield Span(Owner.WAY, kept_ns, arrived_ns)
        yield Span(Owner.QUEUE, arrived_ns, ended_ns, following)
    last_ns = calls[-1].noted.ended_ns
    delivered_ns = asked.delivered_ns or asked.received_ns
    yield from _split(Span(Owner.REPLY, last_ns, delivered_ns, calls[-1]), deaf_ns)
    yield Span(Owner.CLIENT, delivered_ns, asked.received_ns)


def inside(call: Call) -> Iterator[Span]:
    """Yield the parts of a call: its own time, and the waits inside it."""
    at_ns = call.noted.began_ns
    for one in call.carved:
        yield Span(Owner.SERVED, at_ns, one.began_ns, call)
        yield Span(Owner.STORE if one.what is What.STORE else Owner.BLOCKED, one.began_ns, one.ended_ns, call)
        at_ns = one.ended_ns
    yield Span(Owner.SERVED, at_ns, call.noted.ended_ns, call)


def _split(span: Span, deaf_ns: tuple[int, int]) -> Iterator[Span]:
    """Yield the span; the part of it in which the client does not read becomes the client's."""
    from_ns, to_ns = max(span.began_ns, deaf_ns[0]), min(span.ended_ns, deaf_ns[1])
    if from_ns >= to_ns:
        yield span
        return
    yield Span(span.owner, span.began_ns, from_ns, span.call)
    yield Span(Owner.CLIENT, from_ns, to_ns)
    yield Span(span.owner, to_ns, span.ended_ns, span.call)
