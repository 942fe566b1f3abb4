"""The page of a class: a table of submissions by rules, and the rules, cases and bugs that cost most points."""

from collections import Counter
from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

from kvss_gevent.conformance.score import Verdict, sum_points
from kvss_gevent.conformance.translation import ENGLISH, Say, english
from kvss_gevent.grading.mark_files import feedback_link
from kvss_gevent.grading.outcome import Outcome, OutcomeKind
from kvss_gevent.pages.shell import heading, page
from kvss_gevent.pages.tables import Cell, Markup, table
from kvss_gevent.settings.fail import escaped

_STYLE: Final = """
.rules td { padding-right: .4rem; } .rules .mark { display: inline-block; min-width: 2.6rem; text-align: center; }
.share { display: inline-block; height: .8rem; background: var(--not); border-radius: .2rem; vertical-align: middle; }
@media (max-width: 600px) { table.rules td:nth-child(n+5) { display: inline-block; margin-right: .5rem; }
  table.rules td:empty { display: none !important; } }
@media (min-width: 601px) { .rules th { white-space: nowrap; } :root { --width: 90rem; } }
"""
_MOST: Final = 12
"""The number of rows in the lists of frequent failures and causes."""
_BAR_REM: Final = 8.0


def class_page(name: str, outcomes: Sequence[Outcome], say: Say = english) -> str:
    """Return the page."""
    graded = [outcome for outcome in outcomes if outcome.card]
    kinds = Counter(outcome.kind for outcome in outcomes)
    title = say(f"Grades of {name}")
    lead = ", ".join(f"{kinds[kind]} {say(kind)}" for kind in OutcomeKind if kinds[kind])
    parts = [heading(title, say(f"{len(outcomes)} submissions: {lead}"))]
    parts += [_title(say("Submissions by rules")), _matrix(outcomes, say)]
    if graded:
        parts += [_title(say("Rules that the class fails most")), _rules(graded, say)]
        parts += [_title(say("Cases that fail most")), _cases(graded, say), *_causes(graded, say)]
    return page(title, "".join(parts), lang=say(ENGLISH), style=_STYLE)


def _title(words: str) -> str:
    return f"<h2>{escape(words)}</h2>"


def by_rule(verdicts: Sequence[Verdict]) -> dict[int, list[Verdict]]:
    """Return the verdicts with points by the number of their rule."""
    rules: dict[int, list[Verdict]] = {}
    for verdict in sorted(verdicts, key=lambda verdict: verdict.case.rule):
        if verdict.case.points:
            rules.setdefault(verdict.case.rule, []).append(verdict)
    return rules


def _matrix(outcomes: Sequence[Outcome], say: Say) -> str:
    cards = [outcome.card for outcome in outcomes if outcome.card]
    rules = sorted({rule for card in cards for rule in by_rule(card.verdicts)})
    rows: list[list[Cell]] = []
    for outcome in outcomes:
        found = by_rule(outcome.card.verdicts) if outcome.card else {}
        rows.append(
            [
                Markup(f'<a href="{feedback_link(outcome.name)}">{escape(escaped(outcome.name))}</a>'),
                say(outcome.said),
                (f"{outcome.percent:.1f} %", outcome.percent),
                (f"{outcome.points}{say(' of ')}{outcome.possible}", outcome.points),
                *(_share(found.get(rule, ())) for rule in rules),
            ]
        )
    head = map(say, ("name", "verdict", "mark", "points"))
    return table((*head, *(say(f"rule {rule}") for rule in rules)), rows, sortable=True, css="rules")


def _share(verdicts: Sequence[Verdict]) -> Cell:
    if not verdicts:
        return "", None
    reached, possible = sum_points(verdicts)
    look = "ok" if reached == possible else "open" if reached else "not"
    html = f'<span class="mark {look}">{reached}/{possible}</span>'
    return Markup(html, reached / possible)


def _rules(graded: Sequence[Outcome], say: Say) -> str:
    lost: Counter[int] = Counter()
    failed: Counter[int] = Counter()
    possible: Counter[int] = Counter()
    for outcome in graded:
        for rule, verdicts in by_rule(outcome.card.verdicts if outcome.card else ()).items():
            reached, all_points = sum_points(verdicts)
            lost[rule] += all_points - reached
            possible[rule] += all_points
            failed[rule] += reached < all_points
    rows: list[list[Cell]] = [
        [(say(f"rule {rule}"), rule), (str(failed[rule]), failed[rule]), _bar(lost[rule] / possible[rule])]
        for rule in sorted(possible, key=lambda rule: (-lost[rule] / possible[rule], rule))
        if lost[rule]
    ]
    return _table(tuple(map(say, ("rule", "submissions that fail it", "points lost"))), rows, say)


def _table(head: Sequence[str], rows: Sequence[Sequence[Cell]], say: Say) -> str:
    return table(head, rows, sortable=True) if rows else f"<p>{say('None.')}</p>"


def _bar(share: float) -> Cell:
    width = f"{_BAR_REM * share:.2f}rem"
    return Markup(f'<span class="share" style="width:{width}"></span> {100 * share:.0f} %', share)


def _cases(graded: Sequence[Outcome], say: Say) -> str:
    failed = [verdict.case for outcome in graded if outcome.card for verdict in outcome.card.failures]
    cases = {case.id: case for case in failed}
    rows: list[list[Cell]] = [
        [name, (str(cases[name].rule), cases[name].rule), (str(count), count), say(cases[name].title)]
        for name, count in Counter(case.id for case in failed).most_common(_MOST)
    ]
    return _table(tuple(map(say, ("case", "rule", "submissions", "what it looks at"))), rows, say)


def _causes(graded: Sequence[Outcome], say: Say) -> Iterator[str]:
    found = [finding for outcome in graded if outcome.card for finding in outcome.card.causes]
    sentences = {finding.name: finding.sentence for finding in found}
    rows: list[list[Cell]] = [
        [name, (str(count), count), say(sentences[name])]
        for name, count in Counter(finding.name for finding in found).most_common(_MOST)
    ]
    if rows:
        yield _title(say("Most likely causes"))
        yield _table(tuple(map(say, ("cause", "submissions", "what it is"))), rows, say)
