"""The end of a history as a diagram in text: one row for each request, with time from left to right."""

from collections.abc import Iterator, Sequence
from typing import Final

from kvss_gevent.conformance.races.linearizability import Operation
from kvss_gevent.conformance.score import TimedRequest
from kvss_gevent.conformance.translation import Say, english
from kvss_gevent.protocol.wire import Verb, shorten

TITLE: Final = "Requests by time, not to scale. No order explains the last:"
_SHOWN: Final = 8
_WIDTH: Final = 44


def spans(operations: Sequence[Operation], clients: int, history: Sequence[Operation]) -> tuple[TimedRequest, ...]:
    """Return the last operations; the n-th operation of the whole history was sent by client n % clients."""
    shown = operations[-_SHOWN:]
    # Only the order of the moments matters. In a diagram to scale, one slow request would make all others too narrow.
    moments = sorted({moment for one in shown for moment in (one.began, one.ended)})
    part = {moment: place / max(len(moments) - 1, 1) for place, moment in enumerate(moments)}
    places = {id(one): place for place, one in enumerate(history)}
    return tuple(
        TimedRequest(places[id(one)] % clients + 1, part[one.began], part[one.ended], _words(one)) for one in shown
    )


def as_lines(picture: Sequence[TimedRequest], say: Say = english) -> Iterator[str]:
    """Yield the lines of a diagram; none if there are no requests."""
    if picture:
        yield say(TITLE)
    for span in picture:
        start, end = int(span.began * (_WIDTH - 1)), int(span.ended * (_WIDTH - 1))
        bar = " " * start + "|" + "-" * max(end - start - 1, 0) + "|"
        yield f"{say('client')} {span.client}  {bar:<{_WIDTH + 1}} {span.words}"


def _words(one: Operation) -> str:
    if one.verb is Verb.GET:
        return f"GET {'404' if one.found is None else shorten(one.found)}"
    if one.verb is Verb.PUT:
        return f"PUT {shorten(one.value)}" + {True: " 200", False: " 201", None: ""}[one.was_there]
    return f"DEL {'204' if one.was_there else '404'}"
