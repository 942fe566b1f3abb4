"""Holds: spans of time in which a client had a thread or a lock, and their overlaps with another span."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kvss_gevent.trace.analysis.parts import Call
from kvss_gevent.trace.events import What
from kvss_gevent.trace.ring import Noted


@dataclass(frozen=True, slots=True)
class Hold:
    """One client had a thread or a lock from began_ns to ended_ns."""

    began_ns: int
    ended_ns: int
    client: int


def busy(call: Call, began_ns: list[int]) -> Iterator[Hold]:
    """Yield when a call held its thread: its whole time, without waits for the store in which other calls began.

    began_ns: when the calls of the thread began, in order.
    """
    lets_others = [
        one
        for one in call.inner
        if one.what is What.STORE and bisect_left(began_ns, one.ended_ns) > bisect_right(began_ns, one.began_ns)
    ]
    yield from _without(call, lets_others)


def locked(call: Call) -> Iterator[Hold]:
    """Yield when a call held the lock of its process: its whole time, without the laboratory's blocking calls."""
    yield from _without(call, [one for one in call.inner if one.what is What.BLOCK])


def _without(call: Call, events: Iterable[Noted]) -> Iterator[Hold]:
    at_ns = call.noted.began_ns
    for one in events:
        yield Hold(at_ns, one.began_ns, call.client)
        at_ns = one.ended_ns
    yield Hold(at_ns, call.noted.ended_ns, call.client)


def overlaps(holds: Iterable[Hold], began_ns: int, ended_ns: int, but: int) -> list[Hold]:
    """Return the parts of holds within a time, without those of the client `but`."""
    return [
        Hold(max(hold.began_ns, began_ns), min(hold.ended_ns, ended_ns), hold.client)
        for hold in holds
        if hold.client != but and hold.began_ns < ended_ns and hold.ended_ns > began_ns
    ]
