"""Plots with matplotlib, from panels and what was seen. Which panels there are is the experiments'."""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from kvss_gevent import models
from kvss_gevent.compare.experiments import Panel
from kvss_gevent.compare.measuring.contestant import NULL, ON_DISK, model_of
from kvss_gevent.compare.report.summary import Seen

if TYPE_CHECKING:
    from matplotlib.figure import Figure

mpl.use("agg")

COLOURS = {
    "sequential": "#8a8f98",
    "threads": "#b42318",
    "pool": "#e2711d",
    "fork": "#6f4e37",
    "prefork": "#b08968",
    "select": "#0f766e",
    "asyncio": "#2563eb",
    "protocol": "#60a5fa",
    "uvloop": "#7c3aed",
    "trio": "#db2777",
    "gevent-plain": "#65a30d",
    "gevent": "#15803d",
    NULL: "#111827",
}
MARKERS = dict(zip(COLOURS, "osD^vPX<>hd*.", strict=True))
DASHES = ("-", "--", ":", "-.")

MOST_TICKS = 12

WIDTH_IN, LINES_IN, BAR_IN = 8.4, 3.4, 0.24

PLAIN: Any = {
    "font.size": 9,
    "axes.grid": True,
    "grid.color": "#e5e7eb",
    "axes.edgecolor": "#9ca3af",
    "axes.axisbelow": True,
    "svg.hashsalt": "kvss",  # the same rows make the same file
}


def draw(panels: Sequence[Panel], seen: Seen, varies: str) -> "Figure | None":
    """Return the plot of an experiment, one panel below the other; None where there is nothing to draw."""
    from matplotlib.figure import Figure

    with mpl.rc_context(PLAIN):
        drawn = [panel for panel in panels if _has(panel, seen)]
        if not drawn:
            return None
        heights = [_height(panel, seen) for panel in drawn]
        figure = Figure(figsize=(WIDTH_IN, sum(heights)), layout="constrained")
        grid = figure.add_gridspec(len(drawn), 1, height_ratios=heights)
        for number, panel in enumerate(drawn):
            axes = figure.add_subplot(grid[number])
            if panel.kind == "bars":
                _bars(axes, panel, seen)
            else:
                _lines(axes, panel, seen, varies)
        return figure


def as_bytes(figure: "Figure", kind: str) -> bytes:
    """Return a plot as the bytes of an svg or png file."""
    out = io.BytesIO()
    with mpl.rc_context(PLAIN):
        metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(out, format=kind, dpi=130, metadata=metadata)
    return out.getvalue()


def colour_of(contestant: str) -> str:
    """Return a contestant's colour, the same in every plot."""
    return COLOURS[model_of(contestant)]


def _named(seen: Seen) -> list[str]:
    return [*seen.contestants, *([NULL] if seen.null else [])]


def _cases(panel: Panel, seen: Seen) -> list[str]:
    return [panel.case] if panel.case is not None else seen.cases()


def _has(panel: Panel, seen: Seen) -> bool:
    return any(
        seen.values(name, x, panel.figure, case)
        for name in _named(seen)
        for case in _cases(panel, seen)
        for x in seen.xs(name, case)
    )


def _height(panel: Panel, seen: Seen) -> float:
    return 0.7 + BAR_IN * len(_named(seen)) if panel.kind == "bars" else LINES_IN


def _lines(axes: Any, panel: Panel, seen: Seen, varies: str) -> None:
    """Draw a figure against x: a line for each contestant, hollow where the generator was at its end."""
    hollow = False
    places = {x: float(place) if panel.even else x for place, x in enumerate(seen.xs())}
    for name in _named(seen):
        for number, case in enumerate(_cases(panel, seen)):
            found = [(x, one) for x in seen.xs(name, case) if (one := seen.get(name, x, panel.figure, case))]
            if not found:
                continue
            xs = [places[x] for x, _ in found]
            middle = [one.median * panel.scale for _, one in found]
            colour, own = colour_of(name), model_of(name) == models.DEFAULT
            label = f"{name}, {case}" if case and panel.case is None else name
            dashes = "--" if name.endswith(ON_DISK) else DASHES[number % len(DASHES)]
            axes.plot(
                xs, middle, dashes, color=colour, linewidth=2.2 if own else 1.2, label=label, zorder=3 if own else 2
            )
            axes.fill_between(
                xs,
                [one.low * panel.scale for _, one in found],
                [one.high * panel.scale for _, one in found],
                color=colour,
                alpha=0.12,
                linewidth=0,
            )
            for (x, _), at, value in zip(found, xs, middle, strict=True):
                limited = panel.capped and seen.limited(name, x, case)
                hollow = hollow or limited
                axes.plot(
                    [at],
                    [value],
                    MARKERS[model_of(name)],
                    color=colour,
                    markersize=5,
                    mfc="white" if limited else colour,
                    zorder=4,
                )
    _scale(axes, panel, places)
    axes.set_xlabel(varies + ("\n(hollow: the generator was at its end, the server may be better)" if hollow else ""))
    axes.set_ylabel(panel.label)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=8)


def _bars(axes: Any, panel: Panel, seen: Seen) -> None:
    """Draw a figure at one x: a bar for each contestant, least first, with its interval."""
    case = panel.case or ""
    bars = seen.ranking(panel.figure, at=panel.at, case=case)
    if seen.null and (xs := seen.xs(NULL)) and (one := seen.get(NULL, xs[-1], panel.figure)):
        bars.insert(0, (NULL, one))
    for row, (name, one) in enumerate(bars):
        x = panel.at if panel.at is not None else max(seen.xs(name, case))
        limited = panel.capped and seen.limited(name, x, case)
        value, low, high = (number * panel.scale for number in (one.median, one.low, one.high))
        axes.barh(
            row,
            value,
            color="white" if limited or name.endswith(ON_DISK) else colour_of(name),
            edgecolor=colour_of(name),
            height=0.7,
            hatch="//" if name.endswith(ON_DISK) else None,
            xerr=[[max(value - low, 0)], [max(high - value, 0)]],
            error_kw={"elinewidth": 1, "ecolor": "#374151"},
        )
        axes.annotate(
            f" {value:,.3g}" if value < 1000 else f" {value:,.0f}", (max(value, high), row), va="center", fontsize=8
        )
    axes.set_yticks(range(len(bars)), [name for name, _ in bars])
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(panel.label)
    values = [one.median for _, one in bars if one.median > 0]
    if panel.log_x and values and max(values) > 50 * min(values):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(_plainly))


def _scale(axes: Any, panel: Panel, places: Mapping[float, float]) -> None:
    """Set scales and ticks; places has where each x stands."""
    xs = [x for x in places if x > 0]
    if panel.log_x and len(xs) > 1 and max(xs) / min(xs) >= 8:
        axes.set_xscale("log")
        axes.set_xticks(xs, [f"{x:,.0f}" for x in xs])
        axes.minorticks_off()
    elif len(places) <= MOST_TICKS:
        axes.set_xticks(list(places.values()), [f"{x:,.10g}" for x in places])
    if panel.log_y:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=20))
        axes.yaxis.set_major_formatter(FuncFormatter(_plainly))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(bottom=0)


def _plainly(value: float, _: object) -> str:
    return f"{value:,.10g}"
