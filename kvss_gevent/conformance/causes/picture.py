"""Small pictures of one case, as SVG for a page: its packets, and a history that no order explains."""

from textwrap import wrap
from typing import Final

from kvss_gevent.conformance.races.diagram import as_lines
from kvss_gevent.conformance.score import Packet, Verdict
from kvss_gevent.conformance.transcript import has_several, lines_of, shortened
from kvss_gevent.conformance.translation import Say, english
from kvss_gevent.pages.palette import BLUE, GREY, INK, VERMILION
from kvss_gevent.pages.svg import element, line, svg, text

_SHOWN: Final = 12
_WIDTH: Final = 360
"""The width of a telephone, so that text there has at least 12 px."""
_EDGE: Final = 14
_LETTERS: Final = 44
"""The number of letters that fit into a row."""
_ROWS: Final = 2
_LINE: Final = 14
_SLOPE: Final = 4


def drawing(verdict: Verdict, say: Say = english) -> str:
    """Return an SVG: time goes down, each packet is an arrow between the client's line and the server's."""
    several = has_several(verdict)
    left, right, low = float(_EDGE), float(_WIDTH - _EDGE), 24.0
    arrows: list[str] = []
    for packet in tuple(shortened(verdict.packets))[-_SHOWN:]:
        words = (f"({packet.client}) " if several else "") + (packet.data or say(packet.end))
        for row in wrap(words, _LETTERS, max_lines=_ROWS, placeholder="...", drop_whitespace=False):
            low += _LINE
            arrows.append(text(_WIDTH / 2, low, row, text_anchor="middle", fill=INK, font_family="monospace"))
        low += 10
        arrows += _arrow(packet, left, right, low)
    places = [(left, 20.0), (left, low + 10)], [(right, 20.0), (right, low + 10)]
    names = [
        text(left, 14, say("client"), text_anchor="start", fill=INK),
        text(right, 14, say("server"), text_anchor="end", fill=INK),
    ]
    lifelines = [line(place, stroke=GREY) for place in places]
    label = "; ".join(lines_of(verdict, say))
    return svg(_WIDTH, low + 10, *names, *lifelines, *arrows, label=label, style=f"min-width:0;max-width:{_WIDTH}px")


def history(verdict: Verdict, say: Say = english) -> str:
    """Return an SVG: each request is a bar from its sending to its reply; the last one cannot be explained."""
    low, parts = 0.0, []
    for number, span in enumerate(verdict.picture, 1):
        colour = VERMILION if number == len(verdict.picture) else BLUE
        words = f"{say('client')} {span.client}: {span.words}"[:_LETTERS]
        bar = [(_EDGE + (_WIDTH - 2 * _EDGE) * place, low + 2 * _LINE) for place in (span.began, span.ended)]
        parts += [
            text(_EDGE, low + _LINE + 6, words, fill=colour, font_family="monospace"),
            line([(_EDGE, bar[0][1]), (_WIDTH - _EDGE, bar[0][1])], stroke=GREY, stroke_width=1),
            line(bar, stroke=colour, stroke_width=6),
        ]
        low += 2 * _LINE
    label = "; ".join(as_lines(verdict.picture, say))
    return svg(_WIDTH, low + _LINE, *parts, label=label, style=f"min-width:0;max-width:{_WIDTH}px")


def _arrow(packet: Packet, left: float, right: float, low: float) -> tuple[str, str]:
    start, end, back = (left, right, 8) if packet.sent else (right, left, -8)
    colour = BLUE if packet.sent else VERMILION
    dash = "4 4" if packet.end else None
    return (
        line([(start, low - _SLOPE), (end, low)], stroke=colour, stroke_width=1.5, stroke_dasharray=dash),
        element("path", d=f"M{end} {low}l{-back} -4v7z", fill=colour),
    )
