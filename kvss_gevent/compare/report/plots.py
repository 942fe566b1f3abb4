"""Draws the pictures of a report with matplotlib, as SVG and PNG; each shows one figure and has one message."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib as mpl
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from kvss_gevent.compare.estimate import BAND, Estimate
from kvss_gevent.compare.experiments import Panel
from kvss_gevent.compare.measuring.contestant import AGAIN, NULL, is_on_disk, label_of
from kvss_gevent.compare.summary import Seen
from kvss_gevent.pages.palette import BLUE, GREEN, GREY, GRID, INK, LOOKS, MUTED, ORANGE, VERMILION, Look, look
from kvss_gevent.pages.svg import spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH_IN = 8.4
HEAD_IN, FOOT_IN = 0.4, 0.48
ROW_IN, SMALL_IN, LINES_IN = 0.235, 1.55, 3.6
COLUMNS = 4
MOST_LINES = len(LOOKS)

PLAIN: Any = {
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": MUTED,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "svg.hashsalt": "kvss",  # the same rows make the same file
    "svg.fonttype": "none",  # text stays text: it is smaller, sharp, and can be searched
}


class Place(NamedTuple):
    """One point of a line: x, the figure there, and its doubts."""

    x: float
    value: Estimate
    limited: bool
    disturbed: bool


def files(panel: Panel, seen: Seen, varies: str, source: str) -> dict[str, bytes]:
    """Return the picture of a panel as the bytes of an svg and a png file; none if there is nothing to draw."""
    figure = draw(panel, seen, varies, source)
    return {} if figure is None else {kind: as_bytes(figure, kind) for kind in ("svg", "png")}


def draw(panel: Panel, seen: Seen, varies: str, source: str) -> "Figure | None":
    """Return the picture of a panel, with its message above and its source below; None if there is nothing to draw."""
    with mpl.rc_context(PLAIN):
        match panel.kind:
            case "dots":
                figure = _dots(panel, seen)
            case "ratios":
                figure = _ratios(panel, seen)
            case _:
                figure = _lines(panel, seen, varies)
        if figure is not None:
            figure.suptitle(panel.title or panel.label, x=0.01, ha="left", fontsize=11, fontweight="bold")
            figure.text(0.01, 0.05 / figure.get_figheight(), source, fontsize=7, color=MUTED, va="bottom")
            # The layout is worked out once and not for each file: that is a third of the time of a report.
            figure.get_layout_engine().execute(figure)  # type: ignore[union-attr]
            figure.set_layout_engine("none")
        return figure


def as_bytes(figure: "Figure", kind: str) -> bytes:
    """Return a picture as the bytes of an svg or png file."""
    out = io.BytesIO()
    with mpl.rc_context(PLAIN):
        metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(out, format=kind, dpi=110, metadata=metadata)
    if kind == "png":
        from PIL import Image

        few_colours = Image.open(out).convert("RGB").quantize(64)
        out = io.BytesIO()
        few_colours.save(out, "png", optimize=True)
    return out.getvalue()


def _new(height_in: float, rows: int = 1, columns: int = 1, **shared: Any) -> tuple["Figure", Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_IN, height_in + HEAD_IN + FOOT_IN), layout="constrained")
    margin = FOOT_IN / (height_in + HEAD_IN + FOOT_IN)
    figure.get_layout_engine().set(rect=(0, margin, 1, 1 - margin))  # type: ignore[union-attr,call-arg]
    return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def _dots(panel: Panel, seen: Seen) -> "Figure | None":
    """Draw a row for each contestant and a column for each case: a dot with its interval and its number."""
    columns = []
    for case in [panel.case] if panel.case is not None else seen.cases():
        found = {name: _at(panel, seen, name, case) for name in _everybody(seen)}
        placed = {name: place for name, place in found.items() if place is not None}
        if placed:
            columns.append((case, placed))
    if not columns:
        return None
    order = _rows_in_order(
        columns[-1][1], [name for name in _everybody(seen) if any(name in one for _, one in columns)]
    )
    figure, axes = _new(0.45 + ROW_IN * len(order), columns=len(columns), sharey=True)
    for column, (case, placed) in zip(axes[0], columns, strict=True):
        _dots_of(column, panel, placed, order)
        column.set_title(case, fontsize=8, color=MUTED, loc="left")
    axes[0][0].set_yticks(range(len(order)), [label_of(name) for name in order], color=INK)
    axes[0][0].invert_yaxis()
    _foot(figure, panel.label, [place for _, placed in columns for place in placed.values()])
    return figure


def _dots_of(axes: Any, panel: Panel, placed: Mapping[str, Place], order: Sequence[str]) -> None:
    values = [place.value.median for place in placed.values() if place.value.median > 0]
    logarithmic = panel.log_x and bool(values) and max(values) > 12 * min(values)
    for row, name in enumerate(order):
        place = placed.get(name)
        if place is None:
            axes.annotate(
                "no figure", (0.02, row), xycoords=("axes fraction", "data"), fontsize=7, color=MUTED, va="center"
            )
            continue
        middle, low, high = (one * panel.scale for one in (place.value.median, place.value.low, place.value.high))
        colour = _colour(name)
        axes.plot([low, high], [row, row], color=colour, linewidth=1.6, solid_capstyle="round")
        axes.plot(
            [middle],
            [row],
            "x" if place.disturbed else "o",
            color=colour,
            markersize=5.5,
            mfc=_fill(place, panel, colour),
            zorder=4,
        )
        axes.annotate(
            _short(middle), (max(high, middle), row), xytext=(5, 0), textcoords="offset points", va="center", fontsize=8
        )
    split = sum(not is_on_disk(name) if name != NULL else True for name in order)
    if 0 < split < len(order):
        axes.axhline(split - 0.5, color=GREY, linewidth=0.8, linestyle=":")
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    if logarithmic:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0), numticks=6))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(_plainly))
        low, high = axes.get_xlim()
        axes.set_xlim(low, high * (high / low) ** 0.12)
    else:
        top = max([place.value.high * panel.scale for place in placed.values()], default=1.0)
        axes.set_xlim(0, (top or 1.0) * 1.3)


def _ratios(panel: Panel, seen: Seen) -> "Figure | None":
    """Draw each contestant's figure as a multiple of the reference's, with t-intervals and the band of ties."""
    case = panel.case or ""
    found = {}
    for name in _everybody(seen):
        xs = seen.xs(name, case)
        if name != panel.reference and xs and (one := seen.ratio(name, panel.reference, xs[-1], panel.figure, case)):
            found[name] = one
    if not found:
        return None
    order = sorted(found, key=lambda name: (name != NULL and is_on_disk(name), found[name].value))
    figure, grid = _new(0.6 + ROW_IN * len(order))
    axes = grid[0][0]
    axes.axvspan(1 / BAND, BAND, color=GREEN, alpha=0.14, linewidth=0)
    axes.axvline(1, color=GREEN, linewidth=1)
    colours = {"ahead": BLUE, "behind": VERMILION, "tied": GREEN, "not determined": MUTED}
    markers = {"ahead": "<", "behind": ">", "tied": "o", "not determined": "o"}
    for row, name in enumerate(order):
        one = found[name]
        verdict = one.verdict.value
        colour = colours[verdict]
        axes.plot([one.low, one.high], [row, row], color=colour, linewidth=1.8)
        face = "white" if verdict == "not determined" else colour
        axes.plot([one.value], [row], markers[verdict], color=colour, mfc=face, markersize=6)
        axes.annotate(
            f"{one.value:.2f}  {verdict}",
            (one.high, row),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_xscale("log")
    low = min([0.9, *(one.low for one in found.values())])
    high = max([1.1, *(one.high for one in found.values())])
    axes.set_xlim(low / 1.06, high * (high / low) ** 0.35)
    ticks = [tick for tick in (0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 7, 10, 20, 50) if low / 1.06 <= tick <= high * 1.05]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_yticks(range(len(order)), [label_of(name) for name in order], color=INK)
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    _foot(figure, f"{panel.label}; {case}", [], f"shaded: tied, within a factor of {BAND:g}; hollow: not determined")
    return figure


def _lines(panel: Panel, seen: Seen, varies: str) -> "Figure | None":
    """Draw a figure against x: few lines in one picture, with names at their ends, or a small picture for each."""
    series: dict[str, list[Place]] = {}
    for name in _everybody(seen):
        for case in [panel.case] if panel.case is not None else seen.cases():
            places = [
                Place(x, one, panel.capped and seen.limited(name, x, case), seen.disturbed(name, x, case))
                for x in seen.xs(name, case)
                if (one := seen.get(name, x, panel.figure, case))
            ]
            if places:
                both = f"{label_of(name)}, {case}" if case and panel.case is None else label_of(name)
                series[both] = places
    if not series:
        return None
    positions = {x: float(place) if panel.even else x for place, x in enumerate(seen.xs())}
    if len(series) <= MOST_LINES:
        return _few_lines(panel, series, varies, positions)
    return _small_multiples(panel, series, varies, positions)


def _few_lines(
    panel: Panel, series: Mapping[str, list[Place]], varies: str, positions: Mapping[float, float]
) -> "Figure":
    figure, grid = _new(LINES_IN)
    axes = grid[0][0]
    for number, (_, places) in enumerate(series.items()):
        style = look(number)
        _line(axes, panel, places, positions, style)
        axes.lines[-1].set_dashes([float(part) for part in style.dash.split()] or (1, 0))
    _scale(axes, panel, positions)
    figure.canvas.draw()
    ends = [axes.transData.transform((0, places[-1].value.median * panel.scale))[1] for places in series.values()]
    for number, (name, place_px) in enumerate(zip(series, spread(ends, 14 * figure.dpi / 100), strict=True)):
        y = axes.transAxes.inverted().transform((0, place_px))[1]
        axes.annotate(
            name,
            (1.01, y),
            xycoords="axes fraction",
            color=look(number).colour,
            va="center",
            fontsize=8,
            fontweight="bold",
        )
    axes.set_ylabel(panel.label)
    _foot(figure, varies, [place for places in series.values() for place in places])
    return figure


def _small_multiples(
    panel: Panel, series: Mapping[str, list[Place]], varies: str, positions: Mapping[float, float]
) -> "Figure":
    rows = math.ceil(len(series) / COLUMNS)
    figure, grid = _new(SMALL_IN * rows + 0.3, rows, COLUMNS, sharex=True, sharey=True)
    cells = [axes for row in grid for axes in row]
    for axes, (name, own) in zip(cells, series.items(), strict=False):
        for other, places in series.items():
            if other != name:
                xs = [positions[place.x] for place in places]
                axes.plot(
                    xs, [place.value.median * panel.scale for place in places], color=GREY, linewidth=0.7, alpha=0.8
                )
        _line(axes, panel, own, positions)
        if starts := [positions[place.x] for place in own if place.limited]:
            axes.axvspan(min(starts), max(positions.values()), color=ORANGE, alpha=0.13, linewidth=0)
        axes.set_title(name, fontsize=8.5, fontweight="bold", loc="left", color=INK, pad=2)
    for axes in cells[len(series) :]:
        axes.set_visible(False)
    _scale(cells[0], panel, positions)
    for axes in cells:
        axes.tick_params(labelsize=7)
    figure.supylabel(panel.label, fontsize=8, color=MUTED)
    _foot(figure, varies, [place for places in series.values() for place in places])
    return figure


def _line(
    axes: Any, panel: Panel, places: Sequence[Place], positions: Mapping[float, float], style: Look = LOOKS[0]
) -> None:
    colour = style.colour
    xs = [positions[place.x] for place in places]
    lows, highs = ([getattr(place.value, end) * panel.scale for place in places] for end in ("low", "high"))
    axes.fill_between(xs, lows, highs, color=colour, alpha=0.15, linewidth=0)
    for x, place in zip(xs, places, strict=True):
        sign = "x" if place.disturbed else style.marker
        axes.plot([x], [place.value.median * panel.scale], sign, color=colour, markersize=4.5,
                  mfc="white" if place.limited else colour, zorder=4)  # fmt: skip
    axes.plot(xs, [place.value.median * panel.scale for place in places], color=colour, linewidth=1.8, zorder=3)


def _scale(axes: Any, panel: Panel, positions: Mapping[float, float]) -> None:
    """Set scales and ticks. positions: the place of each x on the axis."""
    xs = [x for x in positions if x > 0]
    if panel.log_x and not panel.even and len(xs) > 1 and max(xs) / min(xs) >= 8:
        axes.set_xscale("log")
        axes.set_xticks(xs, [_plainly(x, None) for x in xs])
        axes.xaxis.set_minor_locator(NullLocator())
    elif len(positions) <= 12:
        axes.set_xticks(list(positions.values()), [_plainly(x, None) for x in positions])
    if panel.log_y:
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        steps = (1.0,) if high / low > 300 else (1.0, 3.0) if high / low > 20 else (1.0, 2.0, 5.0)
        axes.yaxis.set_major_locator(LogLocator(subs=steps, numticks=12))
        axes.yaxis.set_major_formatter(FuncFormatter(_plainly))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.set_ylim(bottom=0)


def _foot(figure: "Figure", label: str, places: Sequence[Place], note: str = "") -> None:
    """Write below a picture what its axis is, and what hollow dots and crosses mean, if there are any."""
    notes = [note] if note else []
    if any(place.limited for place in places):
        notes.append("hollow, shaded: generator saturated")
    if any(place.disturbed for place in places):
        notes.append("cross: other processes were in the way")
    figure.text(0.55, 0.27 / figure.get_figheight(), label, fontsize=8.5, color=MUTED, ha="center", va="bottom")
    end = 0.05 / figure.get_figheight()
    figure.text(0.99, end, "; ".join(notes), fontsize=7, color=MUTED, ha="right", va="bottom")


def _at(panel: Panel, seen: Seen, name: str, case: str) -> Place | None:
    """Return a contestant's point at the panel's x, or at its own largest x."""
    xs = seen.xs(name, case)
    x = panel.at if panel.at is not None else max(xs, default=0.0)
    one = seen.get(name, x, panel.figure, case)
    return Place(x, one, panel.capped and seen.limited(name, x, case), seen.disturbed(name, x, case)) if one else None


def _rows_in_order(placed: Mapping[str, Place], names: Sequence[str]) -> list[str]:
    """Return contestants in memory, then those on disk, each group by its figure; those without one come last in it."""
    return sorted(
        names,
        key=lambda name: (
            name != NULL and is_on_disk(name),
            placed[name].value.median if name in placed else math.inf,
        ),
    )


def _everybody(seen: Seen) -> list[str]:
    return [*seen.contestants, *([NULL] if seen.null else [])]


def _colour(name: str) -> str:
    return MUTED if name == NULL or name.endswith(AGAIN) else BLUE if name.startswith("gevent") else INK


def _fill(place: Place, panel: Panel, colour: str) -> str:
    return "white" if panel.capped and place.limited else colour


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else "0" if value == 0 else f"{value:.2g}" if value < 10 else f"{value:.0f}"


def _plainly(value: float, _: object) -> str:
    for factor, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= factor * 10 or (abs(value) >= factor and value % factor == 0):
            return f"{value / factor:g}{unit}"
    return f"{value:,.10g}"
