"""The page that a student gets: the mark, what most likely lies behind it, then every failed case with its bytes."""

from collections.abc import Iterator
from html import escape

from kvss_gevent.conformance.causes import picture
from kvss_gevent.conformance.score import Finding, Scorecard, Verdict, percent
from kvss_gevent.grading.files import explained, points
from kvss_gevent.grading.outcome import Outcome
from kvss_gevent.pages.shell import bullets, figure, folded, heading, page
from kvss_gevent.pages.tables import Cell, table
from kvss_gevent.settings.fail import escaped


def feedback_page(outcome: Outcome) -> str:
    """Return the page."""
    name = escaped(outcome.name)
    lead = f"{outcome.percent:.1f} %, {outcome.points} of {outcome.possible} points. Verdict: {outcome.said}."
    return page(name, heading(name, lead) + "".join(_body(outcome)))


def _body(outcome: Outcome) -> Iterator[str]:
    if outcome.tail:
        yield f"<p>The last that it printed:</p>{_bytes(outcome.tail)}"
    if outcome.notes:
        yield bullets(outcome.notes)
    card = outcome.card
    if card is None:
        return
    if card.causes:
        yield "<h2>Most likely</h2>"
        for finding in card.causes:
            yield from _cause(finding)
    if card.notes:
        yield "<h2>About the run</h2>" + bullets(card.notes)
    yield "<h2>Points</h2>" + _groups(card)
    if card.failures:
        yield "<h2>Failed cases</h2>"
        yield from map(_case, card.failures)
    flaky = [verdict for verdict in card.verdicts if verdict.flaky]
    if flaky:
        yield "<h2>Cases that failed once</h2><p>They passed when they were run again, and keep their points.</p>"
        yield from map(_case, flaky)
    if card.advice:
        yield "<h2>Advice without points</h2>"
        yield from map(_case, card.advice)


def _cause(finding: Finding) -> Iterator[str]:
    first = finding.evidence[0]
    cost = f"Failed cases that come of it: {len(finding.explains)}, points: {finding.points}."
    yield f"<h3>{escape(finding.sentence)}</h3><p>{escape(finding.advice)} {cost}</p>"
    if first.packets:
        yield figure(picture.drawing(first), f"What went over the connection in the case {first.case.id}")


def _groups(card: Scorecard) -> str:
    rows: list[list[Cell]] = []
    for name, verdicts in card.groups.items():
        reached, possible = points(verdicts)
        share = percent(reached, possible)
        passed = sum(verdict.passed for verdict in verdicts)
        rows.append([name, (f"{reached} of {possible}", reached), (f"{passed} of {len(verdicts)}", passed)])
        rows[-1].append((f"{share:.1f} %", share) if possible else ("advice", None))
    return table(("group", "points", "cases", "mark"), rows)


def _case(verdict: Verdict) -> str:
    case = verdict.case
    cost = f"rule {case.rule}, {case.points} point{'s' if case.points != 1 else ''}"
    again = f" (run {verdict.tries} times)" if verdict.tries > 1 else ""
    return folded(f"{case.id}: {case.title} ({cost}){again}", _bytes("\n".join(explained(verdict))))


def _bytes(text: str) -> str:
    lines = "\n".join(escaped(line) for line in text.splitlines())
    return f"<pre>{escape(lines)}</pre>"
