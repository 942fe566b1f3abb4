"""Verdicts and the scorecard, as data. report.py and export.py show them."""

from collections.abc import Iterable
from dataclasses import dataclass

from kvss_gevent.conformance.case import PROJECT, Case, Habit


@dataclass(frozen=True, slots=True)
class Packet:
    """The bytes of one send() or recv() of the checker, or, without data, the end of the connection by one side.

    client: the name of the connection. sent: True if the checker sent it, False if the server did. at_s: time since
    the case began. data: quoted and shortened, printable ASCII. end: how the connection ended, in words.
    """

    client: str
    sent: bool
    at_s: float
    data: str = ""
    end: str = ""


@dataclass(frozen=True, slots=True)
class TimedRequest:
    """One request of a history in a diagram. client: the client's number. began, ended: from 0 to 1, in order of time.

    words: request and reply in short, printable ASCII.
    """

    client: int
    began: float
    ended: float
    words: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of one case; all text is printable ASCII, even if the server sent other bytes.

    sent: the packets, with the connection's name if there are several. expected, received: at the step that failed.
    gone: no connection was made. heard: the server sent something. silent: it failed because it waited too long.
    closed: it failed because a connection ended. picture: requests that no order explains. habits: what was ignored.
    death: how the server ended during the case; tail: the end of its stderr. skipped: the case was not run. tries: how
    often it was run. packets: the last packets of the connections.
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
    closed: bool = False
    picture: tuple[TimedRequest, ...] = ()
    habits: frozenset[Habit] = frozenset()
    death: str = ""
    tail: str = ""
    skipped: bool = False
    tries: int = 1
    packets: tuple[Packet, ...] = ()

    @property
    def flaky(self) -> bool:
        """Whether the case failed at first and passed when it was run again."""
        return self.passed and self.tries > 1


@dataclass(frozen=True, slots=True)
class Finding:
    """A known bug that was recognised: its name, a sentence about it, and advice.

    evidence: the failed cases that show it, the clearest first. explains: all failed cases that it causes.
    """

    name: str
    sentence: str
    advice: str
    evidence: tuple[Verdict, ...]
    explains: tuple[Verdict, ...]

    @property
    def points(self) -> int:
        """The points that the bug costs."""
        return sum_points(self.explains)[1]


@dataclass(frozen=True, slots=True)
class Scorecard:
    """The verdicts of one run, in the order of the table, with notes about the whole run."""

    target: str
    stats_form: str
    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...]
    duration_s: float
    profile: str = PROJECT
    complete: bool = True
    """False if the run was interrupted; then the missing cases were not run."""
    causes: tuple[Finding, ...] = ()
    """The most likely causes of the failures; those that cost most points come first."""

    @property
    def points(self) -> int:
        """The points of the cases that passed."""
        return sum_points(self.verdicts)[0]

    @property
    def possible(self) -> int:
        """The points of all cases that were run."""
        return sum_points(self.verdicts)[1]

    @property
    def failures(self) -> tuple[Verdict, ...]:
        """The verdicts of the cases with points that did not pass."""
        return tuple(verdict for verdict in self.verdicts if not verdict.passed and verdict.case.points)

    @property
    def advice(self) -> tuple[Verdict, ...]:
        """The verdicts of the cases without points that did not pass."""
        return tuple(verdict for verdict in self.verdicts if not verdict.passed and not verdict.case.points)

    @property
    def groups(self) -> dict[str, tuple[Verdict, ...]]:
        """The verdicts by group."""
        names = dict.fromkeys(verdict.case.group for verdict in self.verdicts)
        return {name: tuple(v for v in self.verdicts if v.case.group == name) for name in names}


def sum_points(verdicts: Iterable[Verdict]) -> tuple[int, int]:
    """Return the points of the cases that passed, and those of all cases."""
    verdicts = tuple(verdicts)
    return sum(one.case.points for one in verdicts if one.passed), sum(one.case.points for one in verdicts)


def percent(points: int, possible: int) -> float:
    """Return points as a percentage with one decimal, rounded down: it is 100 only if no point is missing."""
    return int(1000 * points / possible) / 10 if possible else 0.0
