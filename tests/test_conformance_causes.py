"""Root causes: each planted bug gets its own name and no other, and what is said of it can be read."""

import re
import sys
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from xml.etree import ElementTree

import pytest
from planted.bug import Bug
from planted.server import BUGS
from reference_server import State, running, talking

from kvss_gevent.conformance import transcript
from kvss_gevent.conformance.case_plan import Plan
from kvss_gevent.conformance.cases import CASES
from kvss_gevent.conformance.causes import CAUSES, find, picture
from kvss_gevent.conformance.causes.cause import Cause, judge
from kvss_gevent.conformance.process.shell_command import ShellCommand
from kvss_gevent.conformance.process.submission import Submission
from kvss_gevent.conformance.races.diagram import as_lines, spans
from kvss_gevent.conformance.races.linearizability import Operation
from kvss_gevent.conformance.report import as_text
from kvss_gevent.conformance.running.runner import grade, grade_submission
from kvss_gevent.conformance.score import Packet, Scorecard, Verdict
from kvss_gevent.protocol.wire import Verb

IDS = {case.id for case in CASES}
NAMES = {cause.name for cause in CAUSES}
SERVER = Path(__file__).parent / "planted" / "server.py"

QUICK = {
    "piece-is-request": ("framing",),
    "rest-lost": ("framing",),
    "crlf-kept": ("framing",),
    "split-at-any-space": ("commands", "grammar"),
    "keys-cut-at-64": ("commands",),
    "version-prefix": ("versions",),
    "check-then-put": ("concurrency",),
    "torn-value": ("concurrency",),
    "phrases-with-spaces": ("errors",),
}
"""Planted bugs that show in a group of cases without pauses."""


def graded(name: str, plan: Plan) -> Scorecard:
    bug: Bug = BUGS[name]
    if bug.fresh:
        return grade_submission(
            Submission(ShellCommand(f"{sys.executable} {SERVER} {{port}} {name}", SERVER.parent)), plan
        )
    with running(bug.serve, State(bug.form), threads=bug.threads) as port:
        return grade("127.0.0.1", port, plan)


@pytest.mark.parametrize("name", QUICK)
def test_a_planted_bug_is_named(name: str) -> None:
    card = graded(name, Plan(QUICK[name]))
    assert [finding.name for finding in card.causes] == [BUGS[name].cause]


ONCE_UNNOTICED = (
    *("counters-per-connection", "check-then-put", "check-then-del", "torn-value", "keys-cut-at-64", "keys-cut-at-255"),
    *("some-commands-any-case", "bom-taken", "normalised", "tab-stripped", "nul-stripped", "oldest-forgotten"),
    *("equal-put-201", "unfinished-del-run", "reply-buffer-shared", "map-copied", "stale-cache"),
)
"""Servers with these bugs had every point once."""


@pytest.mark.parametrize("name", ONCE_UNNOTICED)
def test_a_bug_that_was_once_unnoticed_is_named_by_its_own_cases(name: str) -> None:
    [cause] = [cause for cause in CAUSES if cause.name == BUGS[name].cause]
    patterns = (*cause.fails, *cause.some, *cause.passes)
    own = tuple(case for case in sorted(IDS) if any(fnmatchcase(case, pattern) for pattern in patterns))
    card = graded(name, Plan(only=own))
    assert [finding.name for finding in card.causes] == [cause.name], as_text(card)


@pytest.mark.full
@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", BUGS)
def test_each_planted_bug_is_caught_and_named_and_accused_of_no_other(name: str) -> None:
    card = graded(name, Plan())
    assert card.points < card.possible
    assert [finding.name for finding in card.causes] == [BUGS[name].cause], as_text(card)


def test_the_planted_bugs_are_many_and_of_all_kinds() -> None:
    assert len(BUGS) >= 80
    assert len({bug.cause for bug in BUGS.values()}) >= 70
    assert {bug.cause for bug in BUGS.values()} == NAMES, "each bug that can be named is planted"


def test_a_correct_server_has_no_causes() -> None:
    with running(talking()) as port:
        card = grade("127.0.0.1", port, Plan(("framing", "commands", "concurrency")))
    assert card.causes == ()


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.name)
def test_a_cause_speaks_of_cases_and_causes_that_there_are(cause: Cause) -> None:
    assert cause.fails or cause.some
    for pattern in (*cause.fails, *cause.some, *cause.passes, *cause.also):
        assert any(fnmatchcase(name, pattern) for name in IDS), pattern
    assert set(cause.over) <= NAMES - {cause.name}
    assert not [other.name for other in CAUSES if other.name in cause.over and cause.name in other.over]
    for sign in (*cause.fails.values(), *cause.some.values()):
        re.compile(sign)
    for text in (cause.sentence, cause.advice):
        assert text.endswith((".", ")"))
        assert text.isprintable()


def failed(name: str, received: str, **more: object) -> Verdict:
    case = next(case for case in CASES if case.id == name)
    return Verdict(case, False, 0.1, (), "'204 NO_CONTENT'", received, **more)  # type: ignore[arg-type]


GENERAL = Cause("general", "s.", "a.", fails={"put-new": ""}, also=("put-*",))
SPECIAL = Cause("special", "s.", "a.", fails={"put-new": "'200"}, passes=("get",), over=("general",))
BOTH = Cause("both", "s.", "a.", fails={"del": "", "del-missing": ""})
LIKELY = Cause("likely", "s.", "a.", some={"d*": "'200.* for '204"}, least=2)


def names(*verdicts: Verdict) -> list[str]:
    return [finding.name for finding in judge((GENERAL, SPECIAL, LIKELY), verdicts)]


def test_a_more_special_cause_displaces_a_more_general_one() -> None:
    assert names(failed("put-new", "nothing")) == ["general"]
    assert names(failed("put-new", "'200 OK'")) == ["special"]


def test_a_cause_that_something_contradicts_is_not_named() -> None:
    assert names(failed("put-new", "'200 OK'"), failed("get", "nothing")) == ["general"]


def test_a_cause_needs_its_whole_evidence() -> None:
    assert names(failed("del", "'200 OK'")) == []
    assert names(failed("del", "'200 OK'"), failed("del-forgets", "'404 NOT_FOUND'")) == []
    assert names(failed("del", "'200 OK'"), failed("del-forgets", "'200 OK x'")) == ["likely"]
    assert judge((BOTH,), (failed("del", "x"),)) == ()
    assert judge((BOTH,), (failed("del", "x"), failed("del-missing", "x"))) != ()


def test_a_case_that_was_not_run_shows_nothing() -> None:
    assert names(failed("put-new", "not tried: the budget is spent", skipped=True)) == []
    assert names(failed("put-new", "no connection", gone=True)) == []


def test_a_case_that_ended_the_server_shows_it_also_where_it_met_no_server_any_more() -> None:
    dying = Cause("dying", "s.", "a.", some={"put-*": "^died: it ended"})
    met_nobody = failed("put-new", "no connection", gone=True, death="it ended with exit status 1")
    assert [finding.name for finding in judge((dying,), (met_nobody,))] == ["dying"]


def test_a_finding_counts_what_comes_of_it() -> None:
    [finding] = judge((GENERAL,), (failed("put-new", "x"), failed("put-equal", "x"), failed("del", "x")))
    assert [verdict.case.id for verdict in finding.evidence] == ["put-new"]
    assert [verdict.case.id for verdict in finding.explains] == ["put-new", "put-equal"]
    assert finding.points == 2


TALK = (
    *(Packet("a", True, number / 1000, f"'{number}'") for number in range(9)),
    Packet("b", False, 0.1, "'<201>'"),
    Packet("b", False, 0.2, end="closes"),
)


def test_the_picture_of_the_packets_is_short() -> None:
    verdict = failed("put-new", "x", packets=TALK)
    assert list(transcript.lines_of(verdict)) == [
        "(a) > '0'",
        "(a) > ... 7 more",
        "(a) > '8'",
        "(b) < '<201>'",
        "(b) < closes",
    ]
    drawn = ElementTree.fromstring(picture.drawing(verdict))
    said = [element.text for element in drawn.iter() if element.tag.endswith("text")]
    assert said == ["client", "server", "(a) '0'", "(a) ... 7 more", "(a) '8'", "(b) '<201>'", "(b) closes"]
    long = failed("put-new", "x", packets=tuple(Packet("a", bool(n % 2), 0.1, f"'{n}'") for n in range(30)))
    assert picture.drawing(long).count("<text") == 2 + 12


def test_a_history_without_an_order_is_drawn_as_text_and_as_a_picture() -> None:
    shared = Operation(Verb.PUT, b"k", 0.0, 1.0, value=b"new"), Operation(Verb.GET, b"k", 2.0, 4.0, found=b"\x1b<old>")
    verdict = failed("race-history", "x", picture=spans(shared, 4, shared))
    assert list(as_lines(verdict.picture))[1:] == [
        "client 1  |-------------|" + " " * 30 + " PUT 'new' 201",
        "client 2  " + " " * 28 + "|" + "-" * 14 + "|  GET '\\x1b<old>'",
    ]
    drawn = ElementTree.fromstring(picture.history(verdict))
    said = [element.text for element in drawn.iter() if element.tag.endswith("text")]
    assert said == ["client 1: PUT 'new' 201", "client 2: GET '\\x1b<old>'"]
    bars = [one.get("points") for one in drawn.iter() if one.get("stroke-width") == "6"]
    assert bars == ["14,28 124.67,28", "235.33,56 346,56"]


def test_the_report_leads_with_the_cause_and_its_packets() -> None:
    case = next(case for case in CASES if case.id == "put-equal")
    verdict = Verdict(case, False, 0.1, (), "'200 OK'", "'201 CREATED'", packets=TALK)
    card = Scorecard("host:1", "readme", (verdict,), (), 0.1)
    card = replace(card, causes=find(card))
    text = as_text(card)
    assert "\nMost likely:\n\n1. PUT answers 201 if it stores the value that is already there.\n" in text
    assert "\n     (a) > ... 7 more\n" in text
    assert text.index("Most likely") < text.index("FAILED put-equal")
