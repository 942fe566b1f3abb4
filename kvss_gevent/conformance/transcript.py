"""The packets of a case as lines of text: the checker sent those with `>`, the server those with `<`."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import groupby
from typing import Final

from kvss_gevent.conformance.score import Packet, Scorecard, Verdict
from kvss_gevent.conformance.translation import Say, english

_SHOWN_PACKETS: Final = 4
"""Of more packets in a row, only the first and the last are shown."""


def lines_of(verdict: Verdict, say: Say = english) -> Iterator[str]:
    """Yield one line for each packet, with the connection's name if there are several."""
    several = has_several(verdict)
    yield from (_line(packet, several, say) for packet in shortened(verdict.packets))


def has_several(verdict: Verdict) -> bool:
    """Tell whether a case had several connections."""
    return len({packet.client for packet in verdict.packets}) > 1


def shortened(packets: Iterable[Packet]) -> Iterator[Packet]:
    """Yield the packets to show; a packet with the end `... N more` replaces those that are left out."""
    for _, group in groupby(packets, key=lambda packet: (packet.client, packet.sent)):
        row = list(group)
        if len(row) <= _SHOWN_PACKETS:
            yield from row
        else:
            yield from (row[0], replace(row[1], data="", end=f"... {len(row) - 2} more"), row[-1])


def whole(card: Scorecard) -> Iterator[str]:
    """Yield the transcripts of all cases of a run, each below its id and its result."""
    for verdict in card.verdicts:
        yield f"{verdict.case.id}: {'passed' if verdict.passed else f'expected {verdict.expected}'}"
        yield from (f"  {line}" for line in lines_of(verdict))


def _line(packet: Packet, several: bool, say: Say) -> str:
    said = packet.data or say(packet.end)
    return f"{_mark(packet, several)} {said}"


def _mark(packet: Packet, several: bool) -> str:
    mark = ">" if packet.sent else "<"
    return f"({packet.client}) {mark}" if several else mark
