"""Who held what, when: spans of time in which a thread served one client, and what of them lies in another span."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kvss_gevent.trace.analysis.parts import Call
from kvss_gevent.trace.events import What
from kvss_gevent.trace.ring import Noted


@dataclass(frozen=True, slots=True)
class Hold:
    """One client had something from began_ns to ended_ns."""

    began_ns: int
    ended_ns: int
    client: int


def busy(call: Call, began_ns: list[int]) -> Iterator[Hold]:
    """Yield when a call held its thread: all the time, but not while the store lets other calls of the thread begin.

    began_ns: when the calls of the thread began, in order.
    """
    lets_others = [
        one
        for one in call.inner
        if one.what is What.STORE and bisect_left(began_ns, one.ended_ns) > bisect_right(began_ns, one.began_ns)
    ]
    yield from _without(call, lets_others)


def locked(call: Call) -> Iterator[Hold]:
    """Yield when a call kept other threads of its process out: not while it waited in a call of the laboratory."""
    yield from _without(call, [one for one in call.inner if one.what is What.BLOCK])


def _without(call: Call, events: Iterable[Noted]) -> Iterator[Hold]:
    at_ns = call.noted.began_ns
    for one in events:
        yield Hold(at_ns, one.began_ns, call.client)
        at_ns = one.ended_ns
    yield Hold(at_ns, call.noted.ended_ns, call.client)


def overlaps(holds: Iterable[Hold], began_ns: int, ended_ns: int, but: int) -> list[Hold]:
    """Return holds by others than `but`, cut to a time."""
    return [
        Hold(max(hold.began_ns, began_ns), min(hold.ended_ns, ended_ns), hold.client)
        for hold in holds
        if hold.client != but and hold.began_ns < ended_ns and hold.ended_ns > began_ns
    ]
