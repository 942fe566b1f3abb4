"""The scorecard for programs: JSON with a versioned schema, and JUnit XML for continuous integration."""

import json
from collections.abc import Iterable
from typing import Any, Final
from xml.etree import ElementTree as xml

from kvss_gevent.conformance import transcript
from kvss_gevent.conformance.case import Case
from kvss_gevent.conformance.races.diagram import as_lines
from kvss_gevent.conformance.score import Finding, Scorecard, Verdict, percent, sum_points
from kvss_gevent.settings.fail import escaped

SCHEMA: Final = "kvss-conform/1"
"""Changes when a field changes its meaning or is removed, but not when a field is added."""


def as_json(card: Scorecard) -> str:
    """Return the scorecard as one JSON object."""
    return _dumps(
        {
            "schema": SCHEMA,
            "target": card.target,
            "error": None,
            "stats_format": card.stats_form,
            "profile": card.profile,
            "complete": card.complete,
            **_sums(card.verdicts),
            "duration_s": round(card.duration_s, 3),
            "notes": list(card.notes),
            "groups": [{"name": name, **_sums(verdicts)} for name, verdicts in card.groups.items()],
            "causes": [_finding(finding) for finding in card.causes],
            "cases": [_verdict(verdict) for verdict in card.verdicts],
        }
    )


def unreachable_as_json(target: str, cause: str) -> str:
    """Return the object for a server that accepts no connection: no points, no cases, and the cause."""
    return _dumps({"schema": SCHEMA, "target": target, "error": cause, **_sums(()), "groups": [], "cases": []})


def cases_as_json(cases: Iterable[Case]) -> str:
    """Return the table as one JSON object, without a run."""
    return _dumps({"schema": SCHEMA, "cases": [_case(case) for case in cases]})


def as_junit(card: Scorecard) -> bytes:
    """Return the scorecard as JUnit XML: one test suite for each group, one test case for each case."""
    root = xml.Element("testsuites", _counts("kvss conform", card.duration_s, card.verdicts))
    for name, verdicts in card.groups.items():
        spent_s = sum(verdict.duration_s for verdict in verdicts)
        suite = xml.SubElement(root, "testsuite", {**_counts(name, spent_s, verdicts), "skipped": "0"})
        for verdict in verdicts:
            _testcase(suite, verdict)
    return _document(root)


def failed_as_junit(name: str, message: str) -> bytes:
    """Return JUnit XML with one error, for a server against which no case was run."""
    counts = {"tests": "1", "failures": "0", "errors": "1", "time": "0"}
    root = xml.Element("testsuites", {"name": "kvss conform", **counts})
    suite = xml.SubElement(root, "testsuite", {"name": name, **counts, "skipped": "0"})
    element = xml.SubElement(suite, "testcase", classname="conform.server", name=name, time="0")
    xml.SubElement(element, "error", message=escaped(message))
    return _document(root)


def _sums(verdicts: tuple[Verdict, ...]) -> dict[str, Any]:
    points, possible = sum_points(verdicts)
    return {
        "points": points,
        "points_possible": possible,
        "percent": percent(points, possible),
        "cases_passed": sum(verdict.passed for verdict in verdicts),
        "cases_run": len(verdicts),
    }


def _case(case: Case) -> dict[str, Any]:
    return {
        "id": case.id,
        "group": case.group,
        "rule": case.rule,
        "source": case.source.value,
        "points": case.points,
        "title": case.title,
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    result = {**_case(verdict.case), "passed": verdict.passed, "duration_s": round(verdict.duration_s, 3)}
    if verdict.flaky:
        result["flaky"] = True
    if verdict.passed:
        return result
    return {
        **result,
        "sent": list(verdict.sent),
        "expected": verdict.expected,
        "received": verdict.received,
        "hint": verdict.case.hint,
        **({"death": verdict.death, "stderr": verdict.tail} if verdict.death else {}),
        **({"picture": list(as_lines(verdict.picture))} if verdict.picture else {}),
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "name": finding.name,
        "sentence": finding.sentence,
        "advice": finding.advice,
        "points": finding.points,
        "evidence": [verdict.case.id for verdict in finding.evidence],
        "explains": [verdict.case.id for verdict in finding.explains],
        "packets": list(transcript.lines_of(finding.evidence[0])),
    }


def _counts(name: str, spent_s: float, verdicts: tuple[Verdict, ...]) -> dict[str, str]:
    """Return the attributes that common schemas allow both for all suites together and for one suite."""
    counts = {"tests": len(verdicts), "failures": sum(map(_is_failure, verdicts)), "errors": 0}
    return {"name": name, "time": f"{spent_s:.3f}", **{what: str(number) for what, number in counts.items()}}


def _is_failure(verdict: Verdict) -> bool:
    """Tell whether points are lost; a case without points is only advice."""
    return not verdict.passed and bool(verdict.case.points)


def _testcase(suite: xml.Element, verdict: Verdict) -> None:
    case = verdict.case
    element = xml.SubElement(
        suite, "testcase", classname=f"conform.{case.group}", name=case.id, time=f"{verdict.duration_s:.3f}"
    )
    if _is_failure(verdict):
        message = f"{case.title}: expected {verdict.expected}, received {verdict.received}"
        failure = xml.SubElement(element, "failure", message=message, type=f"rule {case.rule}")
        failure.text = "\n".join((*(f"sent: {packet}" for packet in verdict.sent), f"hint: {case.hint}"))


def _document(root: xml.Element) -> bytes:
    xml.indent(root)
    document: bytes = xml.tostring(root, encoding="utf-8", xml_declaration=True)
    return document + b"\n"


def _dumps(data: dict[str, Any]) -> str:
    return json.dumps(data, indent=2) + "\n"
