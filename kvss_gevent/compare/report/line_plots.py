"""Pictures of a figure against x: lines in one picture, or a small picture for each contestant."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from kvss_gevent.compare.experiments import Panel
from kvss_gevent.compare.measuring.contestant import label_of
from kvss_gevent.compare.report.plot_parts import PlotPoint, everybody, new_figure, plainly, point, write_foot
from kvss_gevent.compare.summary import Seen
from kvss_gevent.pages.palette import GREY, INK, LOOKS, MUTED, ORANGE, Look, look
from kvss_gevent.pages.svg import spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SMALL_IN, LINES_IN = 1.55, 3.6
COLUMNS = 4
MOST_LINES = len(LOOKS)


def draw_lines(panel: Panel, seen: Seen, varies: str) -> "Figure | None":
    """Draw a figure against x: few lines in one picture, with names at their ends, or a small picture for each."""
    series: dict[str, list[PlotPoint]] = {}
    for name in everybody(seen):
        for case in [panel.case] if panel.case is not None else seen.cases():
            places = [place for x in seen.xs(name, case) if (place := point(panel, seen, name, x, case))]
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
    panel: Panel, series: Mapping[str, list[PlotPoint]], varies: str, positions: Mapping[float, float]
) -> "Figure":
    figure, grid = new_figure(LINES_IN)
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
    write_foot(figure, varies, [place for places in series.values() for place in places])
    return figure


def _small_multiples(
    panel: Panel, series: Mapping[str, list[PlotPoint]], varies: str, positions: Mapping[float, float]
) -> "Figure":
    rows = math.ceil(len(series) / COLUMNS)
    figure, grid = new_figure(SMALL_IN * rows + 0.3, rows, COLUMNS, sharex=True, sharey=True)
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
    write_foot(figure, varies, [place for places in series.values() for place in places])
    return figure


def _line(
    axes: Any, panel: Panel, places: Sequence[PlotPoint], positions: Mapping[float, float], style: Look = LOOKS[0]
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
        axes.set_xticks(xs, [plainly(x, None) for x in xs])
        axes.xaxis.set_minor_locator(NullLocator())
    elif len(positions) <= 12:
        axes.set_xticks(list(positions.values()), [plainly(x, None) for x in positions])
    if panel.log_y:
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        steps = (1.0,) if high / low > 300 else (1.0, 3.0) if high / low > 20 else (1.0, 2.0, 5.0)
        axes.yaxis.set_major_locator(LogLocator(subs=steps, numticks=12))
        axes.yaxis.set_major_formatter(FuncFormatter(plainly))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.set_ylim(bottom=0)
