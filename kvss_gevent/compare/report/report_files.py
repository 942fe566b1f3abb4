"""Writes a report into its journal's directory: the page, its pictures, and the rows as CSV and JSON."""

import csv
import json
import multiprocessing
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from pathlib import Path

from kvss_gevent.compare import experiments
from kvss_gevent.compare.experiments import Panel
from kvss_gevent.compare.report import plots
from kvss_gevent.compare.report.document import measured, page, see
from kvss_gevent.compare.report.report_page import Picture, render
from kvss_gevent.compare.rows import FORMAT, PAGE, ROWS_CSV, ROWS_JSON, VERSION, Journal
from kvss_gevent.compare.words import many
from kvss_gevent.settings.fail import Exit, Fail

PICTURE_LIMIT_S = 600.0
"""The time for one picture, which takes a second or two of CPU."""


def write(journal: Journal) -> Path:
    """Write page, pictures and tables into the journal's directory; returns the page's path. Raises OSError, Fail."""
    directory = journal.directory
    seen = {name: see(journal, name) for name in measured(journal)}
    panels = [(name, panel) for name in seen for panel in experiments.load(name).PANELS]
    pictures: dict[str, list[Picture]] = {}
    # A picture takes a second or two of CPU, so that all processors draw.
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("fork")) as processes:
        drawing = [
            processes.submit(plots.files, panel, seen[name], experiments.load(name).VARIES, _source(journal, name))
            for name, panel in panels
        ]
        for (name, panel), drawn in zip(panels, drawing, strict=True):
            files = _files(drawn, picture_name(name, panel))
            for kind, data in files.items():
                (directory / f"{picture_name(name, panel)}.{kind}").write_bytes(data)
            if files:
                picture = Picture(picture_name(name, panel), files["svg"], f"{panel.title or panel.label}.")
                pictures.setdefault(name, []).append(picture)
    _write_rows(journal)
    path = directory / PAGE
    path.write_text(render(page(journal, seen, pictures)))
    return path


def _files(drawn: "Future[dict[str, bytes]]", name: str) -> dict[str, bytes]:
    """Return the files of a picture that another process draws. Raises Fail."""
    try:
        return drawn.result(PICTURE_LIMIT_S)
    except TimeoutError:
        why = f"was not drawn within {PICTURE_LIMIT_S:g} s"
    except BrokenExecutor:
        why = "was not drawn: a process that draws has died"
    for process in multiprocessing.active_children():
        process.kill()  # those who leave the pool wait for its processes
    raise Fail(f"the picture {name} {why}", "See whether memory is free, then run `report` again.", Exit.UNREACHABLE)


def picture_name(experiment: str, panel: Panel) -> str:
    """Return the file name of a panel's picture, without its ending."""
    return f"{experiment}-{panel.name or panel.figure.rsplit('_', 1)[0].replace('_', '-')}"


def _source(journal: Journal, name: str) -> str:
    machine = journal.settings["machine"]
    repeats = len({row.trial.repeat for row in journal.of(name)})
    return f"kvss compare, {name}, {many(repeats, 'repeat')}, {machine['began'].split()[0]}, {machine['processor']}"


def _write_rows(journal: Journal) -> None:
    """Write every row as CSV and as JSON."""
    rows = [row.as_data() for row in journal.rows]
    figures = list(dict.fromkeys(figure for row in rows for figure in row["figures"]))
    fixed = ("experiment", "model", "repeat", "case", "x")
    with (journal.directory / ROWS_CSV).open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow((*fixed, *figures, "errors", "generator_limited", "disturbed", "failed"))
        for row in rows:
            errors = "; ".join(f"{kind}: {number}" for kind, number in row["errors"].items())
            values = [row["figures"].get(figure, "") for figure in figures]
            writer.writerow(
                (*(row[name] for name in fixed), *values, errors, row["limited"], row["disturbed"], row["failed"])
            )
    whole = {"format": FORMAT, "version": VERSION, "settings": journal.settings, "rows": rows}
    (journal.directory / ROWS_JSON).write_text(json.dumps(whole, indent=1) + "\n")
