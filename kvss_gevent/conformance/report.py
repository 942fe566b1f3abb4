"""The scorecard as text for a terminal of 80 columns. As data for programs it is in export.py."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from textwrap import wrap
from typing import Final

from kvss_gevent.conformance.case import Case
from kvss_gevent.conformance.score import Scorecard, Verdict, percent

WIDTH: Final = 80
SHOWN_PACKETS: Final = 4
_REPEATED: Final = 3
_REPLY_NUMBER: Final = re.compile(r" \(reply \d+ of \d+\)$")


def as_text(card: Scorecard) -> str:
    """Return points by group and in total, then each failure in detail."""
    return "\n".join(_lines(card)) + "\n"


def list_cases(cases: Iterable[Case]) -> str:
    """Return the cases, one a line: points, rule, id and title under the name of their group."""
    lines: list[str] = []
    group = None
    for case in cases:
        if case.group != group:
            group = case.group
            lines += ["", group]
        first, *more = wrap(case.title, WIDTH - 33)
        lines.append(f"  {case.points}p  rule {case.rule:<2}  {case.id:<21}  {first}".rstrip())
        lines += [" " * 38 + line for line in more]
    return "\n".join(lines[1:]) + "\n"


def _lines(card: Scorecard) -> Iterator[str]:
    yield f"{card.target} as a KV/1.0 server, STATS in the {card.stats_form} form"
    yield ""
    yield "group          points     cases"
    for name, verdicts in card.groups.items():
        yield _row(name, verdicts)
    yield _row("total", card.verdicts) + f"  in {card.duration_s:.1f} s"
    for note in card.notes:
        yield ""
        yield from wrap(note, WIDTH)
    if card.failures:
        yield from _repeated(card.failures)
    for verdict in card.failures:
        yield ""
        yield from _failure(verdict)


def _row(name: str, verdicts: tuple[Verdict, ...]) -> str:
    points = sum(verdict.case.points for verdict in verdicts if verdict.passed)
    possible = sum(verdict.case.points for verdict in verdicts)
    passed = sum(verdict.passed for verdict in verdicts)
    return (
        f"{name:<11}{points:>4} of {possible:<3} {passed:>4} of {len(verdicts):<3} {percent(points, possible):>5.1f} %"
    )


def _repeated(failures: tuple[Verdict, ...]) -> Iterator[str]:
    """Say what many failures have in common: one mistake often costs many cases."""
    kinds = Counter(
        f"received {failure.received}"
        if failure.silent or failure.gone
        else f"expected {_REPLY_NUMBER.sub('', failure.expected)}, received {failure.received}"
        for failure in failures
    )
    often = [(kind, count) for kind, count in kinds.most_common() if count >= _REPEATED]
    if often:
        yield ""
        yield "What many cases have in common:"
    for kind, count in often:
        yield from wrap(f"{count:>4} cases {kind}", WIDTH, subsequent_indent=" " * 11)


def _failure(verdict: Verdict) -> Iterator[str]:
    case = verdict.case
    points = "1 point" if case.points == 1 else f"{case.points} points"
    yield f"FAILED {case.id} ({case.group}, rule {case.rule}, {points})"
    yield from wrap(case.title, WIDTH, initial_indent="  ", subsequent_indent="  ")
    hidden = len(verdict.sent) - SHOWN_PACKETS
    if hidden > 0:
        yield f"  sent      {hidden} packets, then"
    for packet in verdict.sent[-SHOWN_PACKETS:]:
        yield from _entry("sent", packet)
    yield from _entry("expected", verdict.expected)
    yield from _entry("received", verdict.received)
    yield from _entry("hint", case.hint)


def _entry(name: str, text: str) -> list[str]:
    return wrap(text, WIDTH, initial_indent=f"  {name:<10}", subsequent_indent=" " * 12, break_on_hyphens=False)
