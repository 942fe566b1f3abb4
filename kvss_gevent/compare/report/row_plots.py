"""Pictures with one row for each contestant: dots with intervals, or ratios to a reference."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from kvss_gevent.compare.estimate import BAND
from kvss_gevent.compare.experiments import Panel
from kvss_gevent.compare.measuring.contestant import AGAIN, NULL, is_on_disk, label_of
from kvss_gevent.compare.report.plot_parts import PlotPoint, everybody, new_figure, plainly, point, write_foot
from kvss_gevent.compare.summary import Seen
from kvss_gevent.pages.palette import BLUE, GREEN, GREY, INK, MUTED, VERMILION

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROW_IN = 0.235


def draw_dots(panel: Panel, seen: Seen) -> "Figure | None":
    """Draw a row for each contestant and a column for each case: a dot with its interval and its number."""
    columns = []
    for case in [panel.case] if panel.case is not None else seen.cases():
        found = {name: _at(panel, seen, name, case) for name in everybody(seen)}
        placed = {name: place for name, place in found.items() if place is not None}
        if placed:
            columns.append((case, placed))
    if not columns:
        return None
    order = _rows_in_order(columns[-1][1], [name for name in everybody(seen) if any(name in one for _, one in columns)])
    figure, axes = new_figure(0.45 + ROW_IN * len(order), columns=len(columns), sharey=True)
    for column, (case, placed) in zip(axes[0], columns, strict=True):
        _dots_of(column, panel, placed, order)
        column.set_title(case, fontsize=8, color=MUTED, loc="left")
    axes[0][0].set_yticks(range(len(order)), [label_of(name) for name in order], color=INK)
    axes[0][0].set_ylim(len(order) - 0.5, -0.5)  # else the marks of the first and the last are cut
    write_foot(figure, panel.label, [place for _, placed in columns for place in placed.values()])
    return figure


def _dots_of(axes: Any, panel: Panel, placed: Mapping[str, PlotPoint], order: Sequence[str]) -> None:
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
        axes.xaxis.set_major_formatter(FuncFormatter(plainly))
        low, high = axes.get_xlim()
        axes.set_xlim(low, high * (high / low) ** 0.12)
    else:
        top = max([place.value.high * panel.scale for place in placed.values()], default=1.0)
        axes.set_xlim(0, (top or 1.0) * 1.3)


def draw_ratios(panel: Panel, seen: Seen) -> "Figure | None":
    """Draw each contestant's figure as a multiple of the reference's, with t-intervals and the band of ties."""
    case = panel.case or ""
    found = {}
    for name in everybody(seen):
        xs = seen.xs(name, case)
        if name != panel.reference and xs and (one := seen.ratio(name, panel.reference, xs[-1], panel.figure, case)):
            found[name] = one
    if not found:
        return None
    order = sorted(found, key=lambda name: (name != NULL and is_on_disk(name), found[name].value))
    figure, grid = new_figure(0.6 + ROW_IN * len(order))
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
    axes.set_ylim(len(order) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    write_foot(
        figure, f"{panel.label}; {case}", [], f"shaded: tied, within a factor of {BAND:g}; hollow: not determined"
    )
    return figure


def _at(panel: Panel, seen: Seen, name: str, case: str) -> PlotPoint | None:
    """Return a contestant's point at the panel's x, or at its own largest x."""
    x = panel.at if panel.at is not None else max(seen.xs(name, case), default=0.0)
    return point(panel, seen, name, x, case)


def _rows_in_order(placed: Mapping[str, PlotPoint], names: Sequence[str]) -> list[str]:
    """Return contestants in memory, then those on disk, each group by its figure; those without one come last in it."""
    return sorted(
        names,
        key=lambda name: (
            name != NULL and is_on_disk(name),
            placed[name].value.median if name in placed else math.inf,
        ),
    )


def _colour(name: str) -> str:
    return MUTED if name == NULL or name.endswith(AGAIN) else BLUE if name.startswith("gevent") else INK


def _fill(place: PlotPoint, panel: Panel, colour: str) -> str:
    return "white" if panel.capped and place.limited else colour


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else "0" if value == 0 else f"{value:.2g}" if value < 10 else f"{value:.0f}"
