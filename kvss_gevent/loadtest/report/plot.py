"""SVG plots as text: percentile curves on a log-nines axis, and series over time. What is plotted is for page.py."""

from collections.abc import Mapping, Sequence
from html import escape
from math import ceil, log10

Curve = Sequence[tuple[float, int]]
"""(percent, microseconds) points, percent ascending."""

_WIDTH, _HEIGHT = 860, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 150, 12, 34
_COLOURS = ("#2563eb", "#d97706", "#18794e", "#b42318", "#7c3aed")
_NINES = (0.0, 90.0, 99.0, 99.9, 99.99, 99.999)


def curves(named: Mapping[str, Curve]) -> str:
    """Return percentile curves: across, each step to the right is one nine more; upwards, latency on a log scale."""
    points = {name: [(p, max(v, 1)) for p, v in curve if p < 100] for name, curve in named.items()}
    points = {name: curve for name, curve in points.items() if curve}
    if not points:
        return "<p>Nothing was measured.</p>"
    nines = min(max(ceil(_nines(max(p for curve in points.values() for p, _ in curve))), 1), 5)
    values = [v for curve in points.values() for _, v in curve]
    low, high = 10 ** int(log10(min(values))), 10 ** ceil(log10(max(*values, 10)))
    decades = max(round(log10(high / low)), 1)

    def across(percent: float) -> float:
        return _LEFT + min(_nines(percent) / nines, 1.0) * (_WIDTH - _LEFT - _RIGHT)

    def up(value: float) -> float:
        return _HEIGHT - _BOTTOM - log10(value / low) / decades * (_HEIGHT - _TOP - _BOTTOM)

    body = [_across_line(across(p), f"{p:g}%" if p else "0%") for p in _NINES[: nines + 1]]
    body += [_up_line(up(low * 10**i), _microseconds(low * 10**i)) for i in range(decades + 1)]
    for number, (name, curve) in enumerate(points.items()):
        body += _line(number, name, [(across(p), up(v)) for p, v in curve])
    return _svg(body)


def series(seconds: Sequence[float], named: Mapping[str, Sequence[float]], unit: str) -> str:
    """Return values over seconds, from zero upwards."""
    if not seconds:
        return "<p>Nothing was measured.</p>"
    last = max(*seconds, 1)
    high = _round_up(max((max(values) for values in named.values()), default=1))

    def across(second: float) -> float:
        return _LEFT + second / last * (_WIDTH - _LEFT - _RIGHT)

    def up(value: float) -> float:
        return _HEIGHT - _BOTTOM - value / high * (_HEIGHT - _TOP - _BOTTOM)

    body = [_across_line(across(last * i / 5), f"{last * i / 5:g} s") for i in range(6)]
    body += [_up_line(up(high * i / 4), f"{high * i / 4:,.4g}") for i in range(5)]
    corner = f'x="{_WIDTH - _RIGHT + 14}" y="{_HEIGHT - _BOTTOM}"'
    body.append(f'<text {corner} font-size="12" fill="#526070">{escape(unit)}</text>')
    for number, (name, values) in enumerate(named.items()):
        body += _line(number, name, [(across(s), up(v)) for s, v in zip(seconds, values, strict=True)])
    return _svg(body)


def _nines(percent: float) -> float:
    return -log10(1 - percent / 100)


def _round_up(value: float) -> float:
    if value <= 0:
        return 1.0
    step = 10.0 ** int(log10(value)) if value >= 1 else 10.0 ** (int(log10(value)) - 1)
    return ceil(value / step) * step


def _microseconds(value: float) -> str:
    return f"{value:g} us" if value < 1000 else f"{value / 1000:g} ms" if value < 1_000_000 else f"{value / 1e6:g} s"


def _across_line(x: float, text: str) -> str:
    y = _HEIGHT - _BOTTOM
    return (
        f'<line x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{y}" stroke="#e4e9ef"/>'
        f'<text x="{x:.1f}" y="{y + 18}" text-anchor="middle" font-size="12" fill="#526070">{text}</text>'
    )


def _up_line(y: float, text: str) -> str:
    return (
        f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}" stroke="#e4e9ef"/>'
        f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" font-size="12" fill="#526070">{text}</text>'
    )


def _line(number: int, name: str, points: Sequence[tuple[float, float]]) -> list[str]:
    colour = _COLOURS[number % len(_COLOURS)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    x, y = _WIDTH - _RIGHT + 14, _TOP + 14 + number * 20
    return [
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>',
        f'<rect x="{x}" y="{y - 8}" width="14" height="4" fill="{colour}"/>',
        f'<text x="{x + 20}" y="{y}" font-size="13" fill="#1d2733">{escape(name)}</text>',
    ]


def _svg(body: list[str]) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">' + "".join(body) + "</svg>"
