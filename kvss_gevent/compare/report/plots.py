"""Draws the pictures of a report with matplotlib, as SVG and PNG; each shows one figure and has one message."""

import io
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

from kvss_gevent.compare.experiments import Panel
from kvss_gevent.compare.report.line_plots import draw_lines
from kvss_gevent.compare.report.row_plots import draw_dots, draw_ratios
from kvss_gevent.compare.summary import Seen
from kvss_gevent.pages.palette import GREY, GRID, INK, MUTED

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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


def files(panel: Panel, seen: Seen, varies: str, source: str) -> dict[str, bytes]:
    """Return the picture of a panel as the bytes of an svg and a png file; none if there is nothing to draw."""
    figure = draw(panel, seen, varies, source)
    return {} if figure is None else {kind: as_bytes(figure, kind) for kind in ("svg", "png")}


def draw(panel: Panel, seen: Seen, varies: str, source: str) -> "Figure | None":
    """Return the picture of a panel, with its message above and its source below; None if there is nothing to draw."""
    with mpl.rc_context(PLAIN):
        match panel.kind:
            case "dots":
                figure = draw_dots(panel, seen)
            case "ratios":
                figure = draw_ratios(panel, seen)
            case _:
                figure = draw_lines(panel, seen, varies)
        if figure is not None:
            figure.suptitle(panel.title or panel.label, x=0.01, ha="left", fontsize=11, fontweight="bold")
            figure.text(0.01, 0.05 / figure.get_figheight(), source, fontsize=7, color=MUTED, va="bottom")
            # The layout is worked out once and not for each file: that is a third of the time of a report.
            figure.get_layout_engine().execute(figure)  # type: ignore[union-attr]
            figure.set_layout_engine("none")
            # The last digits of the layout depend on what was drawn before: they would give the same rows other files.
            for axes in figure.axes:
                left, bottom, width, height = axes.get_position().bounds
                axes.set_position((round(left, 6), round(bottom, 6), round(width, 6), round(height, 6)))
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
