"""Plots of a run as SVG: percentile curves on a log-nines axis, and series over time."""

from collections.abc import Mapping, Sequence
from math import ceil

from kvss_gevent.pages import palette, svg

Curve = Sequence[tuple[float, int]]
"""(percent, microseconds) points, percent ascending."""

_WIDTH, _HEIGHT = 860, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 190, 16, 40
_PERCENTS = (0.0, 90.0, 99.0, 99.9, 99.99, 99.999)
_NOTHING = "<p>Nothing was measured.</p>"


def curves(named: Mapping[str, Curve]) -> str:
    """Return percentile curves: each step to the right is one nine more; latency goes up on a logarithmic scale."""
    points = {name: [(p, max(v, 1)) for p, v in curve if p < 100] for name, curve in named.items()}
    points = {name: curve for name, curve in points.items() if curve}
    if not points:
        return _NOTHING
    most = max(p for curve in points.values() for p, _ in curve)
    last = min(max(ceil(svg.nines(most)), 1), len(_PERCENTS) - 1)
    values = [v for curve in points.values() for _, v in curve]
    marks = svg.decades(min(values), max(*values, 10))
    across = svg.linear(0, last, _LEFT, _WIDTH - _RIGHT)
    up = svg.logarithmic(marks[0], marks[-1], _HEIGHT - _BOTTOM, _TOP)
    grid = [_down(across(n), f"{_PERCENTS[n]:g}%") for n in range(last + 1)]
    grid += [_over(up(value), _microseconds(value)) for value in marks]
    placed = {name: [(across(min(svg.nines(p), last)), up(v)) for p, v in curve] for name, curve in points.items()}
    return _picture(grid, placed, "percentiles of the latency in microseconds")


def series(seconds: Sequence[float], named: Mapping[str, Sequence[float]], unit: str) -> str:
    """Return curves of values over seconds; the axis of values begins at 0."""
    if not seconds:
        return _NOTHING
    last = max(*seconds, 1)
    high = max((max(values) for values in named.values()), default=1) or 1
    marks = svg.ticks(0, high * 1.05)
    across = svg.linear(0, last, _LEFT, _WIDTH - _RIGHT)
    up = svg.linear(0, max(marks[-1], high), _HEIGHT - _BOTTOM, _TOP)
    grid = [_down(across(second), f"{second:g} s") for second in svg.ticks(0, last)]
    grid += [_over(up(value), f"{value:,.12g}") for value in marks]
    grid.append(svg.text(_LEFT, _TOP - 4, unit, fill=palette.MUTED))
    placed = {
        name: [(across(second), up(value)) for second, value in zip(seconds, values, strict=True)]
        for name, values in named.items()
    }
    return _picture(grid, placed, f"{', '.join(named)} over time, in {unit}")


def _picture(grid: Sequence[str], lines: Mapping[str, Sequence[tuple[float, float]]], label: str) -> str:
    body = list(grid)
    ends = svg.spread([points[-1][1] for points in lines.values()], 16)
    for number, ((name, points), end) in enumerate(zip(lines.items(), ends, strict=True)):
        look = palette.look(number)
        body.append(svg.line(points, stroke=look.colour, stroke_dasharray=look.dash or None))
        body.append(svg.text(_WIDTH - _RIGHT + 8, end + 4, name, fill=palette.INK, font_size=13))
        body.append(
            svg.line([(points[-1][0], points[-1][1]), (_WIDTH - _RIGHT + 6, end)], stroke=look.colour, stroke_width=1)
        )
    return svg.svg(_WIDTH, _HEIGHT, *body, label=label)


def _microseconds(value: float) -> str:
    return f"{value:g} us" if value < 1000 else f"{value / 1000:g} ms" if value < 1_000_000 else f"{value / 1e6:g} s"


def _down(x: float, words: str) -> str:
    y = _HEIGHT - _BOTTOM
    return svg.line([(x, _TOP), (x, y)], stroke=palette.GRID, stroke_width=1) + svg.text(
        x, y + 16, words, text_anchor="middle", fill=palette.MUTED
    )


def _over(y: float, words: str) -> str:
    return svg.line([(_LEFT, y), (_WIDTH - _RIGHT, y)], stroke=palette.GRID, stroke_width=1) + svg.text(
        _LEFT - 6, y + 4, words, text_anchor="end", fill=palette.MUTED
    )
