"""The content of a report: its sentences, doubts, tables and facts, as text for a terminal and as a page."""

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from kvss_gevent import models
from kvss_gevent.compare import experiments
from kvss_gevent.compare.estimate import LEAST_GENERATIONS, Estimate
from kvss_gevent.compare.experiments import Statement, cost
from kvss_gevent.compare.measuring.contestant import NULL, command, label_of, model_of
from kvss_gevent.compare.measuring.processors import Cores, quietly
from kvss_gevent.compare.report.report_page import Picture, ReportPage, Section, Table
from kvss_gevent.compare.report.summary_table import summary_table
from kvss_gevent.compare.rows import Journal
from kvss_gevent.compare.summary import Seen
from kvss_gevent.compare.words import figure_of, listed, many
from kvss_gevent.pages.tables import Cell

SCENES = "scenes"
"""The directory with the pages of `kvss show`, beside the report's page."""
FEW_NAMES = 5
FEW_DISTURBED = 0.05
"""A smaller share of disturbed measurements does not change the medians."""


def measured(journal: Journal) -> list[str]:
    """Return the experiments that have rows, in the report's order."""
    names = {row.trial.experiment for row in journal.rows}
    return [name for name in experiments.NAMES if name in names]


def see(journal: Journal, name: str) -> Seen:
    """Return the summary of an experiment's rows."""
    return Seen(journal.of(name), journal.settings["contestants"])


def findings(name: str, seen: Seen) -> list[Statement]:
    """Return the sentences about an experiment; none if no contestant could be measured.

    If other processes disturbed most of it, no truth is decided, unless all contestants were measured in turn.
    """
    if not seen.contestants:
        return []
    module = experiments.load(name)
    found = list(module.findings(seen))
    disturbed = sum(row.point.disturbed for row in seen.rows) * 2 > len(seen.rows)
    if disturbed and not getattr(module, "PAIRED", False):
        return [replace(one, holds=None) for one in found]
    return found


def as_text(journal: Journal) -> Iterator[str]:
    """Yield the sentences of the report as lines for a terminal; the doubts come last."""
    marks = {True: "[ok] ", False: "[NOT] ", None: "[not determined] "}
    doubts = list(_doubts_of_all(journal))
    for name in measured(journal):
        seen = see(journal, name)
        yield f"{experiments.number_of(name)}. {experiments.load(name).TITLE}"
        found = findings(name, seen)
        for one in found:
            yield f"   {marks[one.holds] if one.key else ''}{one.text}"
        if not found:
            yield "   Nothing is compared here: the figures are on the page."
        doubts += [f"{experiments.load(name).TITLE}: {doubt}" for doubt in _doubts(seen)]
    yield "Do not trust these results" if doubts else "No result is in doubt."
    for doubt in doubts:
        yield f"   {doubt}"


def page(journal: Journal, seen: dict[str, Seen], pictures: dict[str, list[Picture]]) -> ReportPage:
    """Return the content of the page."""
    settings, machine = journal.settings, journal.settings["machine"]
    sections = [_section(name, one, pictures.get(name, [])) for name, one in seen.items()]
    for section in sections:
        scene = f"{SCENES}/{experiments.scene_of(section.anchor)}.html"
        section.scene = scene if (journal.directory / scene).exists() else ""
    known = [holds for section in sections for _, holds in section.truths]
    lead = (
        f"{many(len(settings['contestants']), 'server')} under {many(len(seen), 'experiment')}, {settings['profile']} "
        f"profile, on {machine['processor']}, {machine['python']}. "
        f"Of {many(len(known), 'known truth')} {known.count(True)} came out, {known.count(False)} did not, and "
        f"{known.count(None)} could not be determined."
    )
    if cost.REFERENCE in settings["contestants"]:
        lead += f" {label_of(cost.REFERENCE)} is this project's server; other models are what their textbooks show."
    return ReportPage(
        "Concurrency models under KV/1.0",
        lead,
        list(_doubts_of_all(journal)),
        summary_table(seen, settings["contestants"]),
        sections,
        _facts(settings),
        _commands(settings),
        list(_left_out(journal, seen)),
    )


def _doubts_of_all(journal: Journal) -> Iterator[str]:
    """Yield the doubts about the whole report."""
    points = [row.point for row in journal.rows if not row.failed]
    share = sum(point.disturbed for point in points) / max(len(points), 1)
    if share >= FEW_DISTURBED:
        yield (
            f"Other processes were in the way in {share:.0%} of the measurements: "
            "measure again on a machine that does nothing else."
        )
    machine = journal.settings["machine"]
    if not set(machine["server_processors"]).isdisjoint(machine["generator_processors"]):
        yield "Server and generator shared one processor: rates and times are those of both together."


def _doubts(seen: Seen) -> Iterator[str]:
    """Yield the doubts about an experiment, and the contestants without figures."""
    for who, why in seen.failed.items():
        yield f"{label_of(who)} could not be measured: {why}."
    for who, what in seen.unserved().items():
        yield f"{label_of(who)} did not serve all, and has no times and no rank by them, {what}."
    places = [(who, x, case) for who in seen.contestants for case in seen.cases() for x in seen.xs(who, case)]
    if limited := dict.fromkeys(label_of(who) for who, x, case in places if seen.limited(who, x, case)):
        yield f"The generator was saturated, so that the server may be better: {_some(limited, seen)}."
    if disturbed := dict.fromkeys(label_of(who) for who, x, case in places if seen.disturbed(who, x, case)):
        yield f"Other processes were in the way: {_some(disturbed, seen)}."


def _some(labels: Collection[str], seen: Seen) -> str:
    """Return names as words, or only their number if there are many."""
    return f"{len(labels)} of {len(seen.contestants)} models" if len(labels) > FEW_NAMES else listed(labels)


def _section(name: str, seen: Seen, pictures: list[Picture]) -> Section:
    module = experiments.load(name)
    found = findings(name, seen)
    return Section(
        name,
        f"{experiments.number_of(name)}. {module.TITLE}",
        module.TEACHES,
        [(one.text, one.holds) for one in found if not one.key],
        [(one.text, one.holds) for one in found if one.key],
        pictures,
        list(_doubts(seen)),
        [_table(module.VARIES, seen)] if seen.rows else [],
    )


def _table(varies: str, seen: Seen) -> Table:
    """Return a table with every figure of every point: medians with intervals, and marks for doubts."""
    figures = list(dict.fromkeys(figure for row in seen.rows for figure in row.point.figures))
    cases = seen.cases()
    rows: list[list[Cell]] = []
    covers: dict[int, float] = {}
    for who in [*seen.contestants, *([NULL] if seen.null else [])]:
        for case in cases:
            for x in seen.xs(who, case):
                row: list[Cell] = [label_of(who), *([case] if len(cases) > 1 else []), (f"{x:g}", x)]
                for figure in figures:
                    one = seen.get(who, x, figure, case)
                    row.append(_interval(one) if one else "")
                    if one:
                        covers[one.n] = one.covers
                marks = [f"{number:,} {kind}" for kind, number in seen.errors(who, x, case).items()]
                marks += ["generator saturated"] * seen.limited(who, x, case)
                marks += ["disturbed"] * seen.disturbed(who, x, case)
                rows.append([*row, listed(marks)])
    head = ["model", *(["case"] if len(cases) > 1 else []), "x", *figures, "marks"]
    words = listed(f"with {many(n, 'repeat')} {share:.0%}" for n, share in sorted(covers.items()) if n > 1)
    said = f"Intervals cover the median {words}" if words else "One repeat has no interval"
    return Table(head, rows, f"All figures; x is {varies}. {said}")


def _interval(one: Estimate) -> tuple[str, float]:
    return f"{figure_of(one.median)} [{figure_of(one.low)} to {figure_of(one.high)}]", one.median


def _facts(settings: dict[str, Any]) -> dict[str, str]:
    machine = settings["machine"]
    shown = {key.replace("_", " "): value for key, value in machine.items() if key != "packages"}
    shown |= machine["packages"]
    shown |= {
        "profile": settings["profile"],
        "repeats": settings["repeats"],
        "generations of a paired experiment": f"{settings['generations']}, and more where intervals were wide",
        "verdicts": f"by t-intervals over at least {LEAST_GENERATIONS} generations of servers",
        "experiments": settings["experiments"],
    }
    return {key: listed(map(str, value)) if isinstance(value, list) else str(value) for key, value in shown.items()}


def _commands(settings: dict[str, Any]) -> dict[str, str]:
    machine = settings["machine"]
    cores = Cores(frozenset(machine["server_processors"]), frozenset(machine["generator_processors"]))
    commands = {"this report": settings["command"]}
    for name in settings["contestants"]:
        words = quietly(command(name, Path("DIRECTORY"), cores=cores))
        commands[f"server {label_of(name)}"] = f"taskset -c {','.join(map(str, sorted(cores.server)))} {words}"
    for name in settings["experiments"]:
        commands[f"{name}, by hand"] = experiments.load(name).BY_HAND
    return commands


def _left_out(journal: Journal, seen: dict[str, Seen]) -> Iterator[str]:
    """Yield what is not in the report, and why."""
    settings = journal.settings
    for name, why in settings["left_out"].items():
        yield f"{name}: {why}"
    missing = [name for name in experiments.NAMES if name not in settings["experiments"]]
    if missing:
        yield f"The experiments {listed(missing)}: not chosen; the full profile has all of them."
    planned = {tuple(trial) for trial in settings["trials"]}
    done = {(trial.experiment, trial.model, trial.repeat) for trial in journal.done()}
    if planned - done:
        yield f"{len(planned - done)} of {len(planned)} trials: the run was interrupted."
    for name in seen:
        for who, why in getattr(experiments.load(name), "WITHOUT", {}).items():
            yield f"{label_of(who)} in {name}: {why}."
    if "calls" in seen and not any(row.point.figures.get("calls") for row in seen["calls"].rows):
        yield "System calls per request: strace may not be used here (Debian: apt-get install strace)."
    if settings["machine"]["gil"] == "on":
        yield "Threads without the interpreter's lock: this Python has it; a free-threaded one can run the same models."
    loses = {name: models.describe(model_of(name)).loses for name in settings["contestants"]}
    for name, cases in loses.items():
        if cases and not name.endswith("+disk"):
            yield f"{label_of(name)} fails of the conformance table, by nature: {listed(cases)}."
