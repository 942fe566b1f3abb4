"""SVG as text: elements, scales with their ticks, and labels that do not overlap."""

from collections.abc import Callable, Sequence
from html import escape
from math import ceil, floor, log10

Scale = Callable[[float], float]
"""Turns a value into a position in pixels."""


def element(name: str, *content: str, **attributes: object) -> str:
    """Return one element. content is SVG.

    In the name of an attribute an underscore becomes a hyphen, and one at the end is dropped: `class_` is class.
    Floats are rounded to 0.01.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_plain(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{written}>{''.join(content)}</{name}>" if content else f"<{name}{written}/>"


def text(x: float, y: float, words: str, **attributes: object) -> str:
    """Return words at a position. Without font_size they have 12 px, the smallest size that a picture may have."""
    return element("text", escape(words), x=x, y=y, **{"font_size": 12, **attributes})


def line(points: Sequence[tuple[float, float]], **attributes: object) -> str:
    """Return a line through points."""
    places = " ".join(f"{_plain(x)},{_plain(y)}" for x, y in points)
    return element("polyline", points=places, **{"fill": "none", "stroke_width": 2, **attributes})


def svg(width: float, height: float, *content: str, label: str, **attributes: object) -> str:
    """Return a picture that fills the width it is given. label says what it shows, for people who cannot see it."""
    return element(
        "svg",
        *content,
        viewBox=f"0 0 {_plain(width)} {_plain(height)}",
        role="img",
        aria_label=label,
        xmlns="http://www.w3.org/2000/svg",
        font_family="system-ui, sans-serif",
        **attributes,
    )


def linear(low: float, high: float, start_px: float, end_px: float) -> Scale:
    """Return a linear scale. If low equals high, all values lie at start_px."""
    per_unit = (end_px - start_px) / (high - low) if high != low else 0.0
    return lambda value: start_px + (value - low) * per_unit


def logarithmic(low: float, high: float, start_px: float, end_px: float) -> Scale:
    """Return a logarithmic scale. Values below low, and 0, lie at the position of low."""
    place = linear(log10(low), log10(high), start_px, end_px)
    return lambda value: place(log10(max(value, low)))


def nines(percent: float) -> float:
    """Return how many nines a percentile has: 0 at 0 %, 1 at 90 %, 2 at 99 %. Raises ValueError at 100 %."""
    return -log10(1 - percent / 100)


def ticks(low: float, high: float) -> list[float]:
    """Return at most 6 round values from low to high, in steps of 1, 2 or 5 times a power of ten."""
    if high <= low:
        return [low]
    rough = (high - low) / 5
    power = 10.0 ** floor(log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first = ceil(low / step - 1e-9)
    return [number * step for number in range(first, floor(high / step + 1e-9) + 1)]


def decades(low: float, high: float) -> list[float]:
    """Return the powers of ten from below low to above high. Both must be above 0."""
    return [10.0**power for power in range(floor(log10(low)), ceil(log10(high)) + 1)]


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Move positions, in their order and as little as needed, until neighbours are at least gap apart.

    This places labels at the ends of lines, each near its line. Positions that are too close form a group. The centre
    of a group is the mean of the positions that its members had.
    """
    order = sorted(range(len(places)), key=lambda number: places[number])
    groups: list[list[int]] = []
    starts: list[float] = []
    for number in order:
        groups.append([number])
        starts.append(places[number])
        while len(groups) > 1 and starts[-2] + len(groups[-2]) * gap > starts[-1]:
            merged = groups[-2] + groups[-1]
            del groups[-2:], starts[-2:]
            groups.append(merged)
            starts.append(sum(places[one] - position * gap for position, one in enumerate(merged)) / len(merged))
    moved = [0.0] * len(places)
    for group, start in zip(groups, starts, strict=True):
        for position, number in enumerate(group):
            moved[number] = start + position * gap
    return moved


def _plain(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return str(value)
