"""Draws the end of a history as text: a row for each client, time from left to right."""

from collections.abc import Sequence
from typing import Final

from kvss_gevent.conformance.races.linearizability import Operation
from kvss_gevent.protocol.wire import Verb

_SHOWN: Final = 8
_WIDTH: Final = 60


def draw(operations: Sequence[Operation], clients: int, history: Sequence[Operation]) -> tuple[str, ...]:
    """Return lines for the last operations; the n-th operation of the whole history was sent by client n % clients."""
    shown = operations[-_SHOWN:]
    first, last = min(one.began for one in shown), max(one.ended for one in shown)
    scale = (_WIDTH - 1) / max(last - first, 1e-9)
    places = {id(one): place for place, one in enumerate(history)}
    lines = ["the last requests, time from left to right; the last row's reply has no explanation:"]
    for one in shown:
        start, end = int((one.began - first) * scale), int((one.ended - first) * scale)
        bar = " " * start + "|" + "-" * max(end - start - 1, 0) + "|"
        lines.append(f"client {places[id(one)] % clients + 1}  {bar:<{_WIDTH + 1}} {_words(one)}")
    return tuple(lines)


def _words(one: Operation) -> str:
    if one.verb is Verb.GET:
        return f"GET {'404' if one.found is None else one.found.decode(errors='replace')}"
    if one.verb is Verb.PUT:
        return f"PUT {one.value.decode()} {'200' if one.was_there else '201'}"
    return f"DEL {'204' if one.was_there else '404'}"
