"""What went over the connections of a case, as lines for a person: `>` is sent by the checker, `<` by the server."""

from collections.abc import Iterator
from itertools import groupby
from typing import Final

from kvss_gevent.conformance.score import Packet, Scorecard, Verdict

_SHOWN_PACKETS: Final = 4
"""Of more packets in a row only the first and the last are shown."""


def lines_of(verdict: Verdict) -> Iterator[str]:
    """Yield one line for each packet, with the connection's name where there are several."""
    several = len({packet.client for packet in verdict.packets}) > 1
    for _, group in groupby(verdict.packets, key=lambda packet: (packet.client, packet.sent)):
        row = list(group)
        if len(row) <= _SHOWN_PACKETS:
            yield from (_line(packet, several) for packet in row)
        else:
            yield _line(row[0], several)
            yield f"{_mark(row[0], several)} ... {len(row) - 2} more"
            yield _line(row[-1], several)


def whole(card: Scorecard) -> Iterator[str]:
    """Yield the transcripts of all cases of a run, each under its id and what came of it."""
    for verdict in card.verdicts:
        yield f"{verdict.case.id}: {'passed' if verdict.passed else f'expected {verdict.expected}'}"
        yield from (f"  {line}" for line in lines_of(verdict))


def _line(packet: Packet, several: bool) -> str:
    said = f"({packet.end})" if packet.end else packet.data
    return f"{_mark(packet, several)} {said}"


def _mark(packet: Packet, several: bool) -> str:
    mark = ">" if packet.sent else "<"
    return f"({packet.client}) {mark}" if several else mark
