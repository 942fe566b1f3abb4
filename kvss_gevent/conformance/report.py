"""The scorecard as text for a terminal of 80 columns. export.py makes data for programs."""

import re
from collections.abc import Iterable, Iterator
from textwrap import TextWrapper, wrap
from typing import Final

from kvss_gevent.conformance import transcript
from kvss_gevent.conformance.case import PROJECT, Case
from kvss_gevent.conformance.races.diagram import as_lines
from kvss_gevent.conformance.score import Finding, Scorecard, Verdict, percent, sum_points
from kvss_gevent.conformance.translation import Say, english

WIDTH: Final = 80
SHOWN_PACKETS: Final = 4
SHOWN_TAIL_LINES: Final = 3
SHOWN_LINES: Final = 12
SHOWN_LIKEWISE: Final = 20
_REPEATED: Final = 3
_REPLY_NUMBER: Final = re.compile(r" \(reply \d+ of \d+\)$")


def as_text(card: Scorecard, say: Say = english) -> str:
    """Return points by group and in total, then the causes, then each failure in detail."""
    return "\n".join(_lines(card, say)) + "\n"


def list_cases(cases: Iterable[Case], say: Say) -> str:
    """Return one line for each case: points, rule, id and title, below the name of its group."""
    lines: list[str] = []
    group = None
    for case in cases:
        if case.group != group:
            group = case.group
            lines += ["", group]
        start = f"  {case.points}p  {say('rule')} {case.rule:<2}  {case.id:<21}  "
        first, *more = wrap(say(case.title), WIDTH - len(start))
        lines.append(f"{start}{first}".rstrip())
        lines += [" " * len(start) + line for line in more]
    return "\n".join(lines[1:]) + "\n"


def _lines(card: Scorecard, say: Say) -> Iterator[str]:
    yield say(f"{card.target} as a KV/1.0 server, STATS in the {card.stats_form} form")
    if card.profile != PROJECT:
        yield from wrap(say(f"graded by the {card.profile}; what it does not ask for is advice without points"), WIDTH)
    if not card.complete:
        yield say("interrupted: only the cases below were run")
    yield ""
    yield say("group          points     cases")
    for name, verdicts in card.groups.items():
        yield _row(name, verdicts, say)
    yield _row(say("total"), card.verdicts, say)
    for remark in (*card.notes, *habits(card)):
        yield ""
        yield from wrap(say(remark), WIDTH)
    yield from _causes(card.causes, say)
    yield from _failures(card.failures, say)
    if card.advice:
        yield ""
        yield say(f"Advice without points: {len(card.advice)} cases failed that this profile does not grade.")
        for verdict in card.advice:
            advice = f"{verdict.case.id}: {say(verdict.case.title)}"
            yield from wrap(advice, WIDTH, initial_indent="  ", subsequent_indent="    ")


def habits(card: Scorecard) -> Iterator[str]:
    """Yield a sentence for each habit that a case failed for: how many other cases ignored it."""
    for verdict in card.verdicts:
        habit = verdict.case.habit
        if habit is not None and not verdict.passed:
            others = sum(habit in other.habits for other in card.verdicts if other.passed)
            if others:
                name = verdict.case.id
                yield f"{name} costs one case only. Other cases with the same mistake, which ignore it: {others}."


def _row(name: str, verdicts: tuple[Verdict, ...], say: Say) -> str:
    points, possible = sum_points(verdicts)
    passed = sum(verdict.passed for verdict in verdicts)
    of = say(" of ")
    share = percent(points, possible)
    return f"{name:<11}{points:>4}{of}{possible:<3} {passed:>4}{of}{len(verdicts):<3} {share:>5.1f} %"


def _causes(causes: tuple[Finding, ...], say: Say) -> Iterator[str]:
    """Yield the most likely causes of the failures with the packets that show them; the most points come first."""
    if causes:
        yield ""
        yield say("Most likely:")
    for number, finding in enumerate(causes, 1):
        first = finding.evidence[0]
        many, cost = len(finding.explains), _points(finding.points)
        yield ""
        yield from wrap(f"{number}. {say(finding.sentence)}", WIDTH, subsequent_indent="   ")
        shown: list[str] = []
        for packet in tuple(transcript.lines_of(first, say))[-SHOWN_LINES:]:
            shown += wrap(packet, WIDTH, initial_indent="     ", subsequent_indent=" " * 9, drop_whitespace=False)
        if first.death:
            shown.append(f"     {say(first.death)}")
        shown += (f"     {line}" for line in as_lines(first.picture, say))
        seen = say(f"It explains {many} of the failed cases, {cost}. Seen in {first.case.id}")
        yield f"   {seen}{':' if shown else '.'}"
        yield from shown
        yield from wrap(say(finding.advice), WIDTH, initial_indent="   ", subsequent_indent="   ")


def _failures(failures: tuple[Verdict, ...], say: Say) -> Iterator[str]:
    """Yield first what many failures have in common, because one mistake often costs many cases; then each in detail.

    Of the cases that failed only by waiting, or because they got no connection, only the first is shown.
    """
    kinds: dict[str, list[Verdict]] = {}
    for failure in failures:
        kinds.setdefault(_kind(failure), []).append(failure)
    often = sorted((len(same), kind) for kind, same in kinds.items() if len(same) >= _REPEATED)
    if often:
        yield ""
        yield say("What many of the failed cases have in common:")
    for count, kind in reversed(often):
        yield from wrap(f"{count:>4} {say(f'cases {kind}')}", WIDTH, subsequent_indent=" " * 11)
    for failure in failures:
        same = kinds[_kind(failure)] if failure.silent or failure.gone else [failure]
        if failure is same[0]:
            yield ""
            yield from _failure(failure, say)
        if failure is same[0] and len(same) > 1:
            others = [other.case.id for other in same[1:]]
            names = ", ".join(others[:SHOWN_LIKEWISE])
            hidden = f" and {len(others) - SHOWN_LIKEWISE} more" if len(others) > SHOWN_LIKEWISE else ""
            yield from _prose(say("likewise"), say(names + hidden))


def _kind(failure: Verdict) -> str:
    if failure.silent or failure.gone:
        return f"received {failure.received}"
    return f"expected {_REPLY_NUMBER.sub('', failure.expected)}, received {failure.received}"


def _points(points: int) -> str:
    return "1 point" if points == 1 else f"{points} points"


def _failure(verdict: Verdict, say: Say) -> Iterator[str]:
    case = verdict.case
    state = "CRASHED" if verdict.death else "FAILED"
    yield say(f"{state} {case.id} ({case.group}, rule {case.rule}, {_points(case.points)})")
    yield from wrap(say(case.title), WIDTH, initial_indent="  ", subsequent_indent="  ")
    hidden = len(verdict.sent) - SHOWN_PACKETS
    if hidden > 0:
        yield f"  {say('sent'):<10}{say(f'{hidden} packets, then')}"
    for packet in verdict.sent[-SHOWN_PACKETS:]:
        yield from _bytes(say("sent"), say(packet))
    yield from _bytes(say("expected"), say(verdict.expected))
    yield from _bytes(say("received"), say(verdict.received))
    if verdict.death:
        yield from _prose(say("server"), say(verdict.death))
        for line in verdict.tail.splitlines()[-SHOWN_TAIL_LINES:]:
            yield from _bytes("stderr", line.encode("ascii", "backslashreplace").decode())
    yield from (f"  {line}" for line in as_lines(verdict.picture, say))
    yield from _prose(say("hint"), say(case.hint))


def _bytes(name: str, text: str) -> list[str]:
    return _prose(name, text, drop_whitespace=False)  # all spaces of the bytes are shown, even at the end of a line


def _prose(name: str, text: str, *, drop_whitespace: bool = True) -> list[str]:
    start = f"  {name:<10}"
    wrapper = TextWrapper(WIDTH, start, " " * 12, break_on_hyphens=False, drop_whitespace=drop_whitespace)
    return wrapper.wrap(text)
