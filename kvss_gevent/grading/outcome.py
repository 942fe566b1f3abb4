"""The outcome of one submission, as data."""

from dataclasses import dataclass
from enum import StrEnum

from kvss_gevent.conformance.score import Scorecard, percent

SHOWN_CASES = 3
"""A verdict names at most so many cases: it is one cell of a table."""


class OutcomeKind(StrEnum):
    """How far the grading of a submission got."""

    GRADED = "graded"
    CRASHED = "crashed"
    """Graded, but its server died or hung and was started again."""
    NOT_STARTED = "did not start"
    NOT_BUILT = "did not build"
    REFUSED = "refused"
    """Not run, because its folder cannot be copied safely."""
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one submission. why: the cause, if there are no marks; tail: then the end of its output.

    card: its marks, None if it was not graded. notes: further notes for its author. possible: the points of all cases
    of the plan.
    """

    name: str
    kind: OutcomeKind
    duration_s: float
    possible: int
    why: str = ""
    tail: str = ""
    card: Scorecard | None = None
    notes: tuple[str, ...] = ()

    @property
    def points(self) -> int:
        """The points reached; 0 if it was not graded."""
        return self.card.points if self.card else 0

    @property
    def percent(self) -> float:
        """The points as a percentage."""
        return percent(self.points, self.possible)

    @property
    def deadly(self) -> tuple[str, ...]:
        """The cases at which the server died."""
        return tuple(verdict.case.id for verdict in self.card.verdicts if verdict.death) if self.card else ()

    @property
    def flaky(self) -> tuple[str, ...]:
        """The cases that failed at first and passed when they were run again."""
        return tuple(verdict.case.id for verdict in self.card.verdicts if verdict.flaky) if self.card else ()

    @property
    def said(self) -> str:
        """The verdict in words, such as `crashed at no-command`."""
        if self.kind is OutcomeKind.CRASHED:
            named, others = self.deadly[:SHOWN_CASES], self.deadly[SHOWN_CASES:]
            return f"crashed at {', '.join(named)}" + (f" and {len(others)} more" if others else "")
        return f"{self.kind}: {self.why}" if self.why else str(self.kind)
