"""Makes the report of a journal: sentences, tables and plots from its rows, written into its directory."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kvss_gevent import models
from kvss_gevent.compare import experiments
from kvss_gevent.compare.estimate import Estimate
from kvss_gevent.compare.experiments import Finding
from kvss_gevent.compare.measuring.contestant import NULL, ON_DISK, command, is_on_disk, model_of
from kvss_gevent.compare.measuring.cores import quietly
from kvss_gevent.compare.report import plots
from kvss_gevent.compare.report.report_page import Page, Section, Table, render
from kvss_gevent.compare.report.summary import Seen
from kvss_gevent.compare.rows import Journal
from kvss_gevent.compare.words import listed, many

PAGE = "index.html"

FEW_DISTURBED = 0.05
"""Of the measurements: fewer are outvoted by the other repeats."""


def write(journal: Journal) -> Path:
    """Write page, pictures and tables beside the journal; returns the page's path. Raises OSError."""
    directory = journal.directory
    seen = {name: see(journal, name) for name in measured(journal)}
    pictures: dict[str, bytes] = {}
    for name, one in seen.items():
        module = experiments.load(name)
        figure = plots.draw(module.PANELS, one, module.VARIES)
        if figure is not None:
            pictures[name] = plots.as_bytes(figure, "svg")
            (directory / f"{name}.svg").write_bytes(pictures[name])
            (directory / f"{name}.png").write_bytes(plots.as_bytes(figure, "png"))
    _write_rows(journal)
    path = directory / PAGE
    path.write_text(render(page(journal, seen, pictures)))
    return path


def measured(journal: Journal) -> list[str]:
    """Return the experiments that have rows, in the report's order."""
    names = {row.cell.experiment for row in journal.rows}
    return [name for name in experiments.NAMES if name in names]


def see(journal: Journal, name: str) -> Seen:
    """Return what was seen in an experiment."""
    return Seen(journal.of(name), journal.settings["contestants"])


def findings(name: str, seen: Seen) -> list[Finding]:
    """Return what an experiment's numbers say; nothing where nobody could be measured."""
    return list(experiments.load(name).findings(seen)) if seen.contestants else []


def as_text(journal: Journal) -> Iterator[str]:
    """Yield the sentences of the report as lines for a terminal; what is not as known is marked."""
    for name in measured(journal):
        seen = see(journal, name)
        yield f"{experiments.number_of(name)}. {experiments.load(name).TITLE}"
        for one in findings(name, seen):
            yield f"   {'NOT AS KNOWN: ' if one.holds is False else ''}{one.text}"
        for who, why in seen.failed.items():
            yield f"   {who} could not be measured: {why}."


def page(journal: Journal, seen: dict[str, Seen], pictures: dict[str, bytes]) -> Page:
    """Put the page together."""
    settings, machine = journal.settings, journal.settings["machine"]
    sections = [_section(name, one, pictures.get(name, b"")) for name, one in seen.items()]
    known = [holds for section in sections for _, holds in section.sentences if holds is not None]
    apart = set(machine["server_processors"]).isdisjoint(machine["generator_processors"])
    lead = (
        f"{many(len(settings['contestants']), 'server')} under {many(len(seen), 'experiment')}, {settings['profile']} "
        f"profile, {many(settings['repeats'], 'repeat')} each, on {machine['processor']}, {machine['python']}. "
        f"Of {many(len(known), 'known truth')} {sum(known)} came out. Figures are medians; in brackets stands the "
        "bootstrap interval of the repeats."
        + _disturbed(journal)
        + ("" if apart else " Server and generator shared one processor: rates and times are those of both together.")
    )
    return Page(
        "Concurrency models under KV/1.0",
        lead,
        _summary(seen, settings["contestants"]),
        sections,
        _facts(settings),
        _commands(settings),
        list(_left_out(journal, seen)),
    )


def _disturbed(journal: Journal) -> str:
    """Say so where other processes were in the way."""
    points = [row.point for row in journal.rows if not row.failed]
    share = sum(point.disturbed for point in points) / max(len(points), 1)
    if share < FEW_DISTURBED:
        return ""
    return (
        f" Other processes were in the way in {share:.0%} of the measurements: "
        "measure again on a machine that does nothing else."
    )


def _summary(seen: dict[str, Seen], contestants: list[str]) -> Table:
    """Return the table over all experiments; a column for each that was measured."""
    columns: list[tuple[str, dict[str, tuple[str, float]]]] = []

    def add(head: str, cells: dict[str, tuple[str, float]]) -> None:
        if cells:
            columns.append((head, cells))

    if one := seen.get("cost"):
        for head, figure in (
            ("CPU per request, us", "cpu_us"),
            ("context switches per request", "switches"),
            ("system calls per request", "calls"),
        ):
            add(head, {name: _cell(found) for name, found in one.ranking(figure)})
    if one := seen.get("connections"):
        add("most requests per second", {name: _most(one, name) for name in one.contestants})
    if one := seen.get("rate"):
        at = min(one.xs())
        add(f"p99 at {at:,.0f}/s, us", {name: _cell(found) for name, found in one.ranking("p99_us", at=at)})
    if one := seen.get("idle"):
        add("KiB per idle connection", {name: _cell(found) for name, found in one.ranking("each_kib")})
    if one := seen.get("burn"):
        add(
            "longest wait beside BURN 500, ms",
            {name: _cell(found, 0.001) for name, found in one.ranking("max_us", at=1)},
        )
    loses = {name: models.describe(model_of(name)).loses for name in contestants}
    rows = [
        [
            f"{name} (on disk)" if is_on_disk(name) and not name.endswith(ON_DISK) else name,
            *(cells.get(name, "") for _, cells in columns),
            ", ".join(loses[name]) or "nothing",
        ]
        for name in contestants
    ]
    return Table(("model", *(head for head, _ in columns), "fails of the conformance table, by nature"), rows)


def _most(seen: Seen, name: str) -> tuple[str, float]:
    """Return the highest rate over all numbers of connections."""
    best = max((found.median, x) for x in seen.xs(name) if (found := seen.get(name, x, "rate_per_s")))
    return f"{'over ' if seen.limited(name, best[1]) else ''}{best[0]:,.0f}", best[0]


def _cell(found: Estimate, scale: float = 1.0) -> tuple[str, float]:
    return _number(found.median * scale), found.median * scale


def _number(value: float) -> str:
    if 0 < value < 0.01:
        return "<0.01"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _section(name: str, seen: Seen, picture: bytes) -> Section:
    module = experiments.load(name)
    found = findings(name, seen)
    notes = [f"{who} could not be measured: {why}." for who, why in seen.failed.items()]
    if any(seen.limited(who, x, case) for who in seen.contestants for case in seen.cases() for x in seen.xs(who, case)):
        notes.append(
            "Where the generator was at its end (hollow in the plot, marked in the table) the server may be better."
        )
    said = " ".join(one.text for one in found)
    return Section(
        name,
        f"{experiments.number_of(name)}. {module.TITLE}",
        module.TEACHES,
        [(one.text, one.holds) for one in found],
        picture,
        f"{module.TITLE}, against {module.VARIES}. {said}",
        notes,
        [_table(module.VARIES, seen)] if seen.rows else [],
    )


def _table(varies: str, seen: Seen) -> Table:
    """Return every figure of every point: medians with intervals, errors beside them."""
    figures = list(dict.fromkeys(figure for row in seen.rows for figure in row.point.figures))
    cases = seen.cases()
    rows: list[list[str | tuple[str, float]]] = []
    for who in [*seen.contestants, *([NULL] if seen.null else [])]:
        for case in cases:
            for x in seen.xs(who, case):
                row: list[str | tuple[str, float]] = [who, *([case] if len(cases) > 1 else []), (f"{x:g}", x)]
                for figure in figures:
                    one = seen.get(who, x, figure, case)
                    row.append(_interval(one) if one else "")
                errors = listed(f"{number:,} {kind}" for kind, number in seen.errors(who, x, case).items())
                row += [errors, "yes" if seen.limited(who, x, case) else ""]
                rows.append(row)
    head = ["model", *(["case"] if len(cases) > 1 else []), "x", *figures, "errors", "generator at its end"]
    return Table(head, rows, f"All figures; x is {varies}")


def _interval(one: Estimate) -> tuple[str, float]:
    return f"{_number(one.median)} ({_number(one.low)} to {_number(one.high)})", one.median


def _facts(settings: dict[str, Any]) -> dict[str, str]:
    machine = settings["machine"]
    shown = {key.replace("_", " "): value for key, value in machine.items() if key != "packages"}
    shown |= machine["packages"]
    shown |= {"profile": settings["profile"], "repeats": settings["repeats"], "experiments": settings["experiments"]}
    return {key: listed(map(str, value)) if isinstance(value, list) else str(value) for key, value in shown.items()}


def _commands(settings: dict[str, Any]) -> dict[str, str]:
    commands = {"this report": settings["command"]}
    for name in settings["contestants"]:
        words = command(name, Path("DIRECTORY"))
        commands[f"server {name}"] = quietly(words)
    for name in settings["experiments"]:
        commands[f"{name}, by hand"] = experiments.load(name).BY_HAND
    return commands


def _left_out(journal: Journal, seen: dict[str, Seen]) -> Iterator[str]:
    """Say what is not in the report, and why."""
    settings = journal.settings
    for name, why in settings["left_out"].items():
        yield f"{name}: {why}"
    missing = [name for name in experiments.NAMES if name not in settings["experiments"]]
    if missing:
        yield f"The experiments {listed(missing)}: not chosen; the full profile has all of them."
    planned = {tuple(cell) for cell in settings["cells"]}
    done = {(cell.experiment, cell.model, cell.repeat) for cell in journal.done()}
    if planned - done:
        yield f"{len(planned - done)} of {len(planned)} cells: the run was interrupted."
    for name, one in seen.items():
        for who, why in getattr(experiments.load(name), "WITHOUT", {}).items():
            yield f"{who} in {name}: {why}."
        for who, why in one.failed.items():
            yield f"{who} in {name}: {why}"
    if "cost" in seen and not any(row.point.figures.get("calls") for row in seen["cost"].rows):
        yield "System calls per request: neither perf nor strace may be used here (Debian: apt-get install strace)."
    if settings["machine"]["gil"] == "on":
        yield "Threads without the interpreter's lock: this Python has it; a free-threaded one can run the same models."
    yield "Subinterpreters: no model uses them yet."


def _write_rows(journal: Journal) -> None:
    """Write every row as CSV and as JSON."""
    rows = [row.as_data() for row in journal.rows]
    figures = list(dict.fromkeys(figure for row in rows for figure in row["figures"]))
    fixed = ("experiment", "model", "repeat", "case", "x")
    with (journal.directory / "rows.csv").open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow((*fixed, *figures, "errors", "generator_limited", "disturbed", "failed"))
        for row in rows:
            errors = "; ".join(f"{kind}: {number}" for kind, number in row["errors"].items())
            values = [row["figures"].get(figure, "") for figure in figures]
            writer.writerow(
                (*(row[name] for name in fixed), *values, errors, row["limited"], row["disturbed"], row["failed"])
            )
    whole = {"format": "kvss-compare", "version": 1, "settings": journal.settings, "rows": rows}
    (journal.directory / "rows.json").write_text(json.dumps(whole, indent=1) + "\n")
