"""Verdicts and the scorecard they add up to: data alone. Showing it is for report.py and export.py."""

from dataclasses import dataclass

from kvss_gevent.conformance.case import Case


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one case; all text is printable ASCII, whatever the server sent.

    sent: the packets, with the connection's name where there are several. expected, received: where it failed. gone:
    no connection was made. heard: the server has sent something. silent: it failed by waiting.
    """

    case: Case
    passed: bool
    duration_s: float
    sent: tuple[str, ...] = ()
    expected: str = ""
    received: str = ""
    gone: bool = False
    heard: bool = True
    silent: bool = False


@dataclass(frozen=True, slots=True)
class Scorecard:
    """The verdicts of one run, in the order of the table, with what is worth saying about the run as a whole."""

    target: str
    stats_form: str
    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...]
    duration_s: float

    @property
    def points(self) -> int:
        """The points of the cases that passed."""
        return sum(verdict.case.points for verdict in self.verdicts if verdict.passed)

    @property
    def possible(self) -> int:
        """The points of all cases that were run."""
        return sum(verdict.case.points for verdict in self.verdicts)

    @property
    def failures(self) -> tuple[Verdict, ...]:
        """The verdicts of the cases that did not pass."""
        return tuple(verdict for verdict in self.verdicts if not verdict.passed)

    @property
    def groups(self) -> dict[str, tuple[Verdict, ...]]:
        """The verdicts by group."""
        names = dict.fromkeys(verdict.case.group for verdict in self.verdicts)
        return {name: tuple(v for v in self.verdicts if v.case.group == name) for name in names}


def percent(points: int, possible: int) -> float:
    """Return points as a percentage with one decimal; it is 100 only where no point is missing."""
    return int(1000 * points / possible) / 10 if possible else 0.0
