"""The table over all experiments: a row for each contestant, and columns for the main figures."""

from collections.abc import Mapping

from kvss_gevent.compare.estimate import Standing
from kvss_gevent.compare.experiments import cost
from kvss_gevent.compare.measuring.contestant import AGAIN, label_of
from kvss_gevent.compare.report.report_page import Table
from kvss_gevent.compare.summary import Seen
from kvss_gevent.compare.words import figure_of
from kvss_gevent.pages.tables import Cell

BLANK: Cell = ("", None)
CAPTION = "A blank means that there is no figure: requests were not answered, or nothing was measured."
OTHERS = (
    ("calls", "system calls per single request", "calls", "one at a time", 1.0),
    ("rate", "requests/s with 0.2 ms of work", "able_per_s", "", 1.0),
    ("rate", "p99 at 0.8 of its maximum, ms", "p99_us", "", 0.001),
    ("idle", "KiB per idle connection", "each_kib", "", 1.0),
    ("burn", "longest wait beside BURN 500, ms", "max_us", "", 0.001),
    ("lines", "lines of code", "lines", "", 1.0),
)
"""Experiment, heading, figure, case, scale. The x is that of AT, or the largest."""

AT: Mapping[tuple[str, str], float] = {
    ("calls", "calls"): 1.0,
    ("rate", "able_per_s"): 0.5,
    ("rate", "p99_us"): 0.8,
    ("burn", "max_us"): 1.0,
}


def summary_table(seen: Mapping[str, Seen], contestants: list[str]) -> Table:
    """Return the table; columns of experiments that were not measured are left out."""
    head, caption = ["model"], CAPTION
    columns: list[dict[str, Cell]] = []
    if one := seen.get("cost"):
        caption = (
            f"CPU is a multiple of that of {label_of(cost.reference_of(one))}, with its interval and verdict; all "
            f"models that are tied with it form one group. {CAPTION}"
        )
        for pace in (cost.PACES[0], cost.PACES[-1]):
            head.append(f"CPU at {pace}")
            columns.append({name: _ratio(one, name, str(pace), pace.per_s) for name in contestants})
    for experiment, heading, figure, case, scale in OTHERS:
        if one := seen.get(experiment):
            head.append(heading)
            columns.append({name: _figure(one, name, (experiment, figure), case, scale) for name in contestants})
    rows: list[list[Cell]] = [
        [label_of(name), *(column[name] for column in columns)] for name in contestants if not name.endswith(AGAIN)
    ]
    return Table(head, rows, caption)


def _ratio(seen: Seen, name: str, case: str, x: float) -> Cell:
    reference = cost.reference_of(seen)
    if name == reference:
        return "1", 1.0
    found = seen.ratio(name, reference, x, "cpu_us", case)
    if found is None:
        return BLANK
    decided = "" if found.verdict is Standing.BEHIND else f" {found.verdict.value}"
    return f"{found}{decided}", found.value


def _figure(seen: Seen, name: str, of: tuple[str, str], case: str, scale: float) -> Cell:
    x = AT.get(of, max(seen.xs(name, case), default=0.0))
    found = seen.get(name, x, of[1], case)
    if found is None:
        return BLANK
    mark = " (disturbed)" if seen.disturbed(name, x, case) else ""
    return f"{figure_of(found.median * scale)}{mark}", found.median * scale
