"""What all pictures of a report share: the points of a panel, the empty picture, its foot, numbers at ticks."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from kvss_gevent.compare.estimate import Estimate
from kvss_gevent.compare.experiments import Panel
from kvss_gevent.compare.measuring.contestant import NULL
from kvss_gevent.compare.summary import Seen
from kvss_gevent.pages.palette import MUTED

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH_IN = 8.4
HEAD_IN, FOOT_IN = 0.4, 0.48


class PlotPoint(NamedTuple):
    """One point of a line: x, the figure there, and its doubts."""

    x: float
    value: Estimate
    limited: bool
    disturbed: bool


def point(panel: Panel, seen: Seen, name: str, x: float, case: str) -> PlotPoint | None:
    """Return a contestant's point at x; None if it has no figure there."""
    one = seen.get(name, x, panel.figure, case)
    limited = panel.capped and seen.limited(name, x, case)
    return PlotPoint(x, one, limited, seen.disturbed(name, x, case)) if one else None


def everybody(seen: Seen) -> list[str]:
    """Return the contestants, and the server that does nothing if it was measured, too."""
    return [*seen.contestants, *([NULL] if seen.null else [])]


def new_figure(height_in: float, rows: int = 1, columns: int = 1, **shared: Any) -> tuple["Figure", Any]:
    """Return a picture with room for its message above and its source below, and its axes in rows and columns."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_IN, height_in + HEAD_IN + FOOT_IN), layout="constrained")
    margin = FOOT_IN / (height_in + HEAD_IN + FOOT_IN)
    figure.get_layout_engine().set(rect=(0, margin, 1, 1 - margin))  # type: ignore[union-attr,call-arg]
    return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def write_foot(figure: "Figure", label: str, places: Sequence[PlotPoint], note: str = "") -> None:
    """Write below a picture what its axis is, and what hollow dots and crosses mean, if there are any."""
    notes = [note] if note else []
    if any(place.limited for place in places):
        notes.append("hollow, shaded: generator saturated")
    if any(place.disturbed for place in places):
        notes.append("cross: other processes were in the way")
    figure.text(0.55, 0.27 / figure.get_figheight(), label, fontsize=8.5, color=MUTED, ha="center", va="bottom")
    end = 0.05 / figure.get_figheight()
    figure.text(0.99, end, "; ".join(notes), fontsize=7, color=MUTED, ha="right", va="bottom")


def plainly(value: float, _: object) -> str:
    """Return a number as a tick shows it, such as `1,200`, `12k` or `3M`. matplotlib passes a second argument."""
    for factor, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= factor * 10 or (abs(value) >= factor and value % factor == 0):
            return f"{value / factor:g}{unit}"
    return f"{value:,.10g}"
