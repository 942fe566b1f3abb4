"""The files with a class's outcomes: marks as CSV, and Gradescope's results.json and JUnit XML for each submission."""

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator
from typing import Any, Final
from urllib.parse import quote

from kvss_gevent.conformance.cases import GROUPS
from kvss_gevent.conformance.export import as_junit, failed_as_junit
from kvss_gevent.conformance.races.diagram import as_lines
from kvss_gevent.conformance.score import Verdict, sum_points
from kvss_gevent.conformance.transcript import lines_of
from kvss_gevent.conformance.translation import Say, english
from kvss_gevent.grading.outcome import Outcome
from kvss_gevent.settings.fail import escaped

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet reads a cell that begins with one of these as a formula."""

_HEAD: Final = ("name", "verdict", "points", "possible", "percent", "passed", "cases", "flaky", "causes", "seconds")


FEEDBACK: Final = "feedback"
"""The folder of the students' pages."""


def feedback_link(name: str) -> str:
    """Return the address of a student's page, as seen from the page of the class."""
    return f"{FEEDBACK}/{quote(os.fsencode(name))}.html"


def marks(outcomes: Iterable[Outcome]) -> bytes:
    """Return one row for each submission, as UTF-8 with a byte order mark; without it spreadsheets misread names."""
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow((*_HEAD, *GROUPS))
    for outcome in outcomes:
        writer.writerow([harmless(cell) if isinstance(cell, str) else cell for cell in _row(outcome)])
    return stream.getvalue().encode("utf-8-sig")


def harmless(cell: str) -> str:
    """Return a text that no spreadsheet runs: if it begins like a formula, an apostrophe is put before it."""
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def gradescope(outcome: Outcome, say: Say = english) -> bytes:
    """Return results.json in the form of Gradescope's autograder."""
    verdicts = outcome.card.verdicts if outcome.card else ()
    result: dict[str, Any] = {
        "score": outcome.points,
        "execution_time": round(outcome.duration_s),
        "output": "\n".join(
            (say(outcome.said), *map(say, outcome.notes), *_tail(outcome, say), *_causes(outcome, say))
        ),
        "output_format": "text",
        "tests": [_test(verdict, say) for verdict in verdicts if verdict.case.points],
        "extra_data": {"verdict": str(outcome.kind), "possible": outcome.possible, "percent": outcome.percent},
    }
    return (json.dumps(result, indent=1) + "\n").encode()


def junit(outcome: Outcome) -> bytes:
    """Return JUnit XML: the cases, or one error if no case was run."""
    if outcome.card:
        return as_junit(outcome.card)
    return failed_as_junit(str(outcome.kind), outcome.said)


def _row(outcome: Outcome) -> Iterator[str | int | float]:
    card = outcome.card
    verdicts = card.verdicts if card else ()
    yield from (escaped(outcome.name), outcome.said, outcome.points, outcome.possible, outcome.percent)
    yield from (sum(verdict.passed for verdict in verdicts), len(verdicts), " ".join(outcome.flaky))
    yield "; ".join(finding.name for finding in card.causes) if card else ""
    yield round(outcome.duration_s, 1)
    for group in GROUPS:
        yield sum_points(card.groups.get(group, ()) if card else ())[0]


def _test(verdict: Verdict, say: Say) -> dict[str, Any]:
    case = verdict.case
    test = {
        "name": f"{case.id}: {say(case.title)}",
        "number": str(case.rule),
        "score": case.points if verdict.passed else 0,
        "max_score": case.points,
        "status": "passed" if verdict.passed else "failed",
        "tags": [case.group],
        "visibility": "visible",
    }
    return test if verdict.passed else {**test, "output": "\n".join(explained(verdict, say))}


def explained(verdict: Verdict, say: Say) -> Iterator[str]:
    """Yield what went wrong in a case, with the packets of its connections."""
    yield say(f"expected {verdict.expected}")
    yield say(f"received {verdict.received}")
    yield from lines_of(verdict, say)
    yield from as_lines(verdict.picture, say)
    if verdict.death:
        yield say(f"the server: {verdict.death}")
        yield from map(escaped, verdict.tail.splitlines()[-5:])
    yield say(f"hint: {verdict.case.hint}")


def _tail(outcome: Outcome, say: Say) -> Iterator[str]:
    if outcome.tail:
        yield say("The last lines that it printed:")
        yield from map(escaped, outcome.tail.splitlines())


def _causes(outcome: Outcome, say: Say) -> Iterator[str]:
    for finding in outcome.card.causes if outcome.card else ():
        yield f"{say(finding.sentence)} {say(finding.advice)}"
