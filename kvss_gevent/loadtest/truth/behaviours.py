"""The behaviours of the known servers: when and what they answer, and what they do to the connection."""

from collections.abc import Callable
from dataclasses import dataclass, field

Store = dict[bytes, bytes]

CONNECTION = "connection"
"""The fault of a request that ends the connection."""

WHOLE, DRIP, BYTES, NEVER, RESET, CLOSE = "whole", "drip", "bytes", "never", "reset", "close"
"""How a reply is sent: whole, in pieces, byte by byte, or never; or a reset instead of it, or a close after it."""


@dataclass(slots=True)
class ReceivedRequest:
    """A request as a server sees it. number counts the requests of all connections, nth those of this connection.

    The requests of a connection are served one after the other; begun is when the reply before was due.
    """

    verb: bytes
    key: bytes
    value: bytes
    received: float
    begun: float
    number: int
    nth: int


@dataclass(slots=True)
class Answer:
    """What a server does: the reply line, when and how it is sent, and the name of the fault, if it is one."""

    reply: bytes
    at: float
    how: str = WHOLE
    fault: str = ""


@dataclass(slots=True)
class State:
    """The state of a server: values, the values before them, when each was stored, and when it is free again."""

    data: Store = field(default_factory=dict)
    before: Store = field(default_factory=dict)
    stored_at: dict[bytes, float] = field(default_factory=dict)
    lost_at: dict[bytes, float] = field(default_factory=dict)
    """The time from which an acknowledged value is lost."""
    free_at: float = 0.0
    begun: float = 0.0
    chances: int = 0
    """The number of requests so far in which a fault was possible."""


Behaviour = Callable[[State, ReceivedRequest], Answer]


def right(state: State, request: ReceivedRequest) -> bytes:
    """Do what a request asks for, as docs/protocol.md says, and return its reply."""
    key, data = request.key, state.data
    if request.verb == b"GET":
        return b"200 OK " + data[key] if key in data else b"404 NOT_FOUND"
    if request.verb == b"PUT":
        known = key in data
        # The order of two writes that were under way together is unknown, so neither value is stale.
        if known and request.received - state.stored_at.get(key, 0.0) > 0.1:
            state.before[key] = data[key]
        else:
            state.before.pop(key, None)
        data[key] = request.value
        state.stored_at[key] = request.received
        return b"200 OK" if known else b"201 CREATED"
    return b"204 NO_CONTENT" if data.pop(key, None) is not None else b"404 NOT_FOUND"


def fixed(delay_s: float) -> Behaviour:
    """Take the same time for each request."""
    return lambda state, request: Answer(right(state, request), request.begun + delay_s)


def bimodal(short_s: float, long_s: float, every: int) -> Behaviour:
    """Answer fast, and slowly once in a while."""
    return lambda state, request: Answer(
        right(state, request), request.begun + (short_s if request.number % every else long_s)
    )


def periodic(period_s: float, stall_s: float) -> Behaviour:
    """Answer nothing for the last part of each period."""

    def answer(state: State, request: ReceivedRequest) -> Answer:
        into_s = (request.begun - state.begun) % period_s
        rest_s = period_s - into_s
        return Answer(right(state, request), request.begun + (rest_s if rest_s < stall_s else 0.001))

    return answer


def capacity(per_s: float) -> Behaviour:
    """Answer one request after the other, over all connections, each in the same time."""

    def answer(state: State, request: ReceivedRequest) -> Answer:
        state.free_at = max(state.free_at, request.received) + 1 / per_s
        return Answer(right(state, request), state.free_at)

    return answer


def sending(how: str, delay_s: float = 0.001) -> Behaviour:
    """Send every reply in pieces."""
    return lambda state, request: Answer(right(state, request), request.begun + delay_s, how)


def sometimes(every: int, fault: Callable[[State, ReceivedRequest], Answer | None]) -> Behaviour:
    """Answer correctly, but make the fault in every `every`-th request in which it is possible."""

    def answer(state: State, request: ReceivedRequest) -> Answer:
        wrong = fault(state, request)
        if wrong is not None:
            state.chances += 1
            if state.chances % every == 0:
                wrong.at = request.begun + 0.001
                return wrong
        return Answer(right(state, request), request.begun + 0.001)

    return answer


def _is_read(state: State, request: ReceivedRequest) -> bool:
    return request.verb == b"GET" and request.key in state.data


def torn(state: State, request: ReceivedRequest) -> Answer | None:
    """Change the last byte of a value."""
    if not _is_read(state, request):
        return None
    return Answer(b"200 OK " + state.data[request.key][:-1] + b"~", 0, fault="torn value")


def swapped(state: State, request: ReceivedRequest) -> Answer | None:
    """Return the value of another key."""
    if not _is_read(state, request):
        return None
    other = next(key for key in state.data if key != request.key)
    return Answer(b"200 OK " + state.data[other], 0, fault="another key's value")


def stale(state: State, request: ReceivedRequest) -> Answer | None:
    """Return the value before the last, if the last one was surely acknowledged long ago."""
    old = request.key in state.before and request.received - state.stored_at[request.key] > 0.3
    if not _is_read(state, request) or not old:
        return None
    return Answer(b"200 OK " + state.before[request.key], 0, fault="stale value")


def vanished(state: State, request: ReceivedRequest) -> Answer | None:
    """Say that there is no such key."""
    if not _is_read(state, request):
        return None
    return Answer(b"404 NOT_FOUND", 0, fault="acknowledged value is gone")


def loses(every: int, keeps_s: float) -> Behaviour:
    """Lose every `every`-th stored value after keeps_s: each read of it until the next PUT is a fault."""

    def answer(state: State, request: ReceivedRequest) -> Answer:
        at = request.begun + 0.001
        if request.verb == b"GET" and state.lost_at.get(request.key, at) < request.received:
            return Answer(b"404 NOT_FOUND", at, fault="acknowledged value is gone")
        if request.verb == b"PUT":
            state.lost_at.pop(request.key, None)
            state.chances += 1
            if state.chances % every == 0:
                state.lost_at[request.key] = request.received + keeps_s
        return Answer(right(state, request), at)

    return answer


def foreign(state: State, request: ReceivedRequest) -> Answer | None:
    """Return a value that no client has written."""
    return Answer(b"200 OK nobody wrote this", 0, fault="torn value") if _is_read(state, request) else None


def refused(_: State, __: ReceivedRequest) -> Answer | None:
    """Refuse with 500."""
    return Answer(b"500 SERVER_ERROR", 0, fault="500 SERVER_ERROR")


def reset(_: State, __: ReceivedRequest) -> Answer | None:
    """Reset the connection in place of a reply."""
    return Answer(b"", 0, RESET, CONNECTION)


def silent(_: State, request: ReceivedRequest) -> Answer:
    """Answer nothing."""
    return Answer(b"", request.received, NEVER, "no reply")


def hangs_after(seconds: float) -> Behaviour:
    """Answer correctly for a time, and then never again."""

    def answer(state: State, request: ReceivedRequest) -> Answer:
        if request.received - state.begun < seconds:
            return Answer(right(state, request), request.begun + 0.001)
        return silent(state, request)

    return answer


def closes_after(requests: int) -> Behaviour:
    """End each connection after so many replies."""

    def answer(state: State, request: ReceivedRequest) -> Answer:
        how = CLOSE if request.nth == requests else WHOLE if request.nth < requests else NEVER
        return Answer(right(state, request), request.begun + 0.001, how, "" if how == WHOLE else CONNECTION)

    return answer


BEHAVIOURS: dict[str, Behaviour] = {
    "fixed delay of 2 ms": fixed(0.002),
    "1 ms, every 20th 20 ms": bimodal(0.001, 0.02, 20),
    "stands still 0.2 s a second": periodic(1.0, 0.2),
    "does 500/s": capacity(500),
    "replies in pieces": sending(DRIP),
    "replies byte by byte": sending(BYTES, 0.005),
    "torn values": sometimes(40, torn),
    "swapped values": sometimes(40, swapped),
    "stale values": sometimes(40, stale),
    "vanished values": sometimes(40, vanished),
    "loses every 10th value": loses(10, 0.1),
    "values nobody wrote": sometimes(40, foreign),
    "500 once in 50": sometimes(50, refused),
    "resets once in 200": sometimes(200, reset),
    "closes after 100": closes_after(100),
    "hangs after 1 s": hangs_after(1.0),
    "silence": silent,
}
