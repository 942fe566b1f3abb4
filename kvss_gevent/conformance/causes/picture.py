"""A small picture of the packets of one case: lines for a terminal, or an SVG for a page."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from kvss_gevent.conformance.score import Packet, Verdict
from kvss_gevent.pages.palette import BLUE, GREY, INK, VERMILION
from kvss_gevent.pages.svg import element, line, svg, text

_RUN: Final = 4
"""Of more packets than this in one direction the first ones and the last are shown."""
_SHOWN: Final = 12
_WIDTH: Final = 640
_ROW: Final = 30
_LETTERS: Final = 64


def lines(verdict: Verdict) -> tuple[str, ...]:
    """Return a line for each packet, from the client to the server (-->) or back (<--)."""
    rows = tuple(_rows(verdict.packets))
    several = len({packet.client for packet in rows}) > 1
    return tuple(
        f"{_who(packet) + ': ' if several else ''}{'-->' if packet.sent else '<--'} {_words(packet)}" for packet in rows
    )


def drawing(verdict: Verdict, client: str = "client", server: str = "server") -> str:
    """Return an SVG: time goes down, each packet is an arrow between the client's line and the server's."""
    rows = tuple(_rows(verdict.packets))
    several = len({packet.client for packet in rows}) > 1
    left, right, height = 30.0, _WIDTH - 30.0, 40.0 + _ROW * len(rows)
    parts = [
        text(left, 14, client, text_anchor="start", fill=INK),
        text(right, 14, server, text_anchor="end", fill=INK),
        line([(left, 22), (left, height)], stroke=GREY),
        line([(right, 22), (right, height)], stroke=GREY),
    ]
    for number, packet in enumerate(rows):
        low = 50.0 + _ROW * number
        start, end = (left, right) if packet.sent else (right, left)
        back = 8 if packet.sent else -8
        colour = BLUE if packet.sent else VERMILION
        dash = "4 4" if packet.end else None
        parts.append(line([(start, low - 4), (end, low)], stroke=colour, stroke_width=1.5, stroke_dasharray=dash))
        parts.append(element("path", d=f"M{end} {low}l{-back} -4v7z", fill=colour))
        words = (f"{_who(packet)}: " if several else "") + _words(packet)
        shown = words if len(words) <= _LETTERS else words[: _LETTERS - 3] + "..."
        parts.append(text(_WIDTH / 2, low - 8, shown, text_anchor="middle", fill=INK, font_family="monospace"))
    return svg(_WIDTH, height, *parts, label="; ".join(lines(verdict)), style=f"max-width:{_WIDTH}px")


def _words(packet: Packet) -> str:
    return packet.data or packet.end


def _who(packet: Packet) -> str:
    return packet.client if len(packet.client) > 1 else f"client {packet.client}"


def _rows(packets: tuple[Packet, ...]) -> Iterator[Packet]:
    """Yield the packets to show; what was left out is a packet that says so."""
    shown = list(_shortened(packets))
    if len(shown) > _SHOWN:
        left_out = len(shown) - _SHOWN
        yield replace(shown[left_out], data="", end=f"... {left_out} packets before")
    yield from shown[-_SHOWN:]


def _shortened(packets: tuple[Packet, ...]) -> Iterator[Packet]:
    run: list[Packet] = []
    for packet in (*packets, None):
        if run and (packet is None or (packet.sent, packet.client) != (run[0].sent, run[0].client) or packet.end):
            if len(run) > _RUN:
                yield from run[:2]
                yield replace(run[2], data="", end=f"... {len(run) - 3} more packets")
                yield run[-1]
            else:
                yield from run
            run = []
        if packet is not None:
            run.append(packet)
