"""A small picture of the packets of one case, as SVG for a page."""

from typing import Final

from kvss_gevent.conformance.language import Say, english
from kvss_gevent.conformance.score import Packet, Verdict
from kvss_gevent.conformance.transcript import has_several, lines_of, shortened
from kvss_gevent.pages.palette import BLUE, GREY, INK, VERMILION
from kvss_gevent.pages.svg import element, line, svg, text

_SHOWN: Final = 12
_WIDTH: Final = 640
_ROW: Final = 30
_LETTERS: Final = 64


def drawing(verdict: Verdict, say: Say = english) -> str:
    """Return an SVG: time goes down, each packet is an arrow between the client's line and the server's."""
    rows = tuple(shortened(verdict.packets))[-_SHOWN:]
    several = has_several(verdict)
    left, right, height = 30.0, _WIDTH - 30.0, 40.0 + _ROW * len(rows)
    parts = [
        text(left, 14, say("client"), text_anchor="start", fill=INK),
        text(right, 14, say("server"), text_anchor="end", fill=INK),
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
        words = (f"({packet.client}) " if several else "") + _words(packet, say)
        shown = words if len(words) <= _LETTERS else words[: _LETTERS - 3] + "..."
        parts.append(text(_WIDTH / 2, low - 8, shown, text_anchor="middle", fill=INK, font_family="monospace"))
    return svg(_WIDTH, height, *parts, label="; ".join(lines_of(verdict, say)), style=f"max-width:{_WIDTH}px")


def _words(packet: Packet, say: Say) -> str:
    return packet.data or say(packet.end)
