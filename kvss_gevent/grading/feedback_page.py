"""The page that a student gets: the mark, the most likely causes of failures, and every failed case with its bytes."""

from collections.abc import Iterator
from html import escape

from kvss_gevent.conformance.causes import picture
from kvss_gevent.conformance.races.diagram import TITLE
from kvss_gevent.conformance.score import Finding, Scorecard, Verdict, percent, sum_points
from kvss_gevent.conformance.translation import ENGLISH, Say, english
from kvss_gevent.grading.mark_files import explained
from kvss_gevent.grading.outcome import Outcome
from kvss_gevent.pages.shell import bullets, figure, folded, heading, page
from kvss_gevent.pages.tables import Cell, table
from kvss_gevent.settings.fail import escaped


def feedback_page(outcome: Outcome, say: Say = english) -> str:
    """Return the page."""
    name = escaped(outcome.name)
    lead = f"{outcome.percent:.1f} %, {outcome.points} of {outcome.possible} points. Verdict: {outcome.said}."
    return page(name, heading(name, say(lead)) + "".join(_body(outcome, say)), lang=say(ENGLISH))


def _body(outcome: Outcome, say: Say) -> Iterator[str]:
    if outcome.tail:
        yield f"<p>{say('The last lines that it printed:')}</p>{_bytes(outcome.tail)}"
    if outcome.notes:
        yield bullets(map(say, outcome.notes))
    card = outcome.card
    if card is None:
        return
    if card.causes:
        yield f"<h2>{say('Most likely')}</h2>"
        for finding in card.causes:
            yield from _cause(finding, say)
    flaky = tuple(verdict for verdict in card.verdicts if verdict.flaky)
    kept = "They passed when they were run again, and keep their points."
    yield from _cases("Failed cases", "", card.failures, say)
    yield from _cases("Cases that failed once", kept, flaky, say)
    yield from _cases("Advice without points", "", card.advice, say)
    if card.notes:
        yield f"<h2>{say('About the run')}</h2>" + bullets(map(say, card.notes))
    yield f"<h2>{say('Points')}</h2>" + _groups(card, say)


def _cases(title: str, lead: str, verdicts: tuple[Verdict, ...], say: Say) -> Iterator[str]:
    if verdicts:
        yield f"<h2>{say(title)}</h2>"
        yield f"<p>{say(lead)}</p>" if lead else ""
        for verdict in verdicts:
            yield _case(verdict, say)


def _cause(finding: Finding, say: Say) -> Iterator[str]:
    first = finding.evidence[0]
    cost = say(f"Failed cases that it explains: {len(finding.explains)}, points: {finding.points}.")
    yield f"<h3>{escape(say(finding.sentence))}</h3><p>{escape(say(finding.advice))} {cost}</p>"
    if first.picture:
        yield figure(picture.history(first, say), say(TITLE).rstrip(":"))
    if first.packets:
        caption = say(f"What went over the connection in the case {first.case.id}")
        yield figure(picture.drawing(first, say), caption)


def _groups(card: Scorecard, say: Say) -> str:
    rows: list[list[Cell]] = []
    for name, verdicts in card.groups.items():
        reached, possible = sum_points(verdicts)
        share = percent(reached, possible)
        passed = sum(verdict.passed for verdict in verdicts)
        of = say(" of ")
        rows.append([name, (f"{reached}{of}{possible}", reached), (f"{passed}{of}{len(verdicts)}", passed)])
        rows[-1].append((f"{share:.1f} %", share) if possible else (say("advice"), None))
    return table(tuple(map(say, ("group", "points", "cases", "mark"))), rows)


def _case(verdict: Verdict, say: Say) -> str:
    case = verdict.case
    cost = say(f"rule {case.rule}, {case.points} point{'s' if case.points != 1 else ''}")
    again = say(f" (run {verdict.tries} times)") if verdict.tries > 1 else ""
    summary = f"{case.id}: {say(case.title)} ({cost}){again}"
    drawn = figure(picture.history(verdict, say), say(TITLE).rstrip(":")) if verdict.picture else ""
    return folded(summary, drawn + _bytes("\n".join(explained(verdict, say))))


def _bytes(text: str) -> str:
    lines = "\n".join(escaped(line) for line in text.splitlines())
    return f"<pre>{escape(lines)}</pre>"
