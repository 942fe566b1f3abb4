"""What a known bug is, and how it is recognised in the verdicts of a run.

A bug is named only if all its evidence is there and nothing contradicts it. A more specific bug replaces a more
general one, so that one mistake gets one name.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from kvss_gevent.conformance.score import Finding, Verdict

DIED = "died: "
"""Signs see this, and then how the server ended, as what was received in a case that ended the server."""

_FOR = " for "


@dataclass(frozen=True, slots=True)
class Cause:
    """A known bug: a sentence about what the server most likely does, and advice what to do instead.

    fails: signs that must all be there: the id of a case and a pattern for what it received. An empty pattern matches
    every failure of a case that was run; after ` for ` a pattern matches what was expected. some: at least `least` of
    these signs must be there. passes: cases that must not have failed. over: names of more general bugs, which are not
    named if this one is. also: other cases that this bug makes fail. Ids in some and also may contain `*`.
    """

    name: str
    sentence: str
    advice: str
    fails: Mapping[str, str] = field(default_factory=dict)
    some: Mapping[str, str] = field(default_factory=dict)
    least: int = 1
    passes: tuple[str, ...] = ()
    over: tuple[str, ...] = ()
    also: tuple[str, ...] = ()

    def find(self, failed: Mapping[str, Verdict]) -> Finding | None:
        """Return the finding if these failed verdicts, by the ids of their cases, show this bug; else None."""
        if any(name in failed and not failed[name].skipped for name in self.passes):
            return None
        certain = [failed[name] for name, sign in self.fails.items() if name in failed and _shows(failed[name], sign)]
        likely = [
            verdict
            for pattern, sign in self.some.items()
            for name, verdict in failed.items()
            if fnmatchcase(name, pattern) and _shows(verdict, sign)
        ]
        if len(certain) < len(self.fails) or (self.some and len(likely) < self.least):
            return None
        evidence = tuple({verdict.case.id: verdict for verdict in (*certain, *likely)}.values())
        patterns = (*self.fails, *self.also)
        explains = tuple(
            verdict
            for name, verdict in failed.items()
            if verdict in evidence or any(fnmatchcase(name, pattern) for pattern in patterns)
        )
        return Finding(self.name, self.sentence, self.advice, evidence, explains)


def judge(causes: Iterable[Cause], verdicts: Iterable[Verdict]) -> tuple[Finding, ...]:
    """Return the bugs that cases with points show; those that cost most points come first."""
    judged = (verdict for verdict in verdicts if verdict.death or not verdict.gone)
    failed = {verdict.case.id: verdict for verdict in judged if not verdict.passed}
    found = [(cause, finding) for cause in causes if (finding := cause.find(failed))]
    displaced = {name for cause, _ in found for name in cause.over}
    left = [
        finding
        for cause, finding in found
        if cause.name not in displaced and any(verdict.case.points for verdict in finding.evidence)
    ]
    return tuple(sorted(left, key=lambda finding: -finding.points))


def _shows(verdict: Verdict, sign: str) -> bool:
    received = DIED + verdict.death if verdict.death else verdict.received
    if not sign:
        return not verdict.skipped and not verdict.death
    if _FOR in sign:
        received += _FOR + verdict.expected
    return re.search(sign, received) is not None
