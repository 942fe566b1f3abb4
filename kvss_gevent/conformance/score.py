"""Verdicts and the scorecard they add up to: data alone. report.py and export.py show it."""

from dataclasses import dataclass

from kvss_gevent.conformance.case import PROJECT, Case, Habit


@dataclass(frozen=True, slots=True)
class Packet:
    """What one send() or recv() of the checker carried, or, without data, the end that one side made.

    client: the name of the connection. sent: by the checker; else by the server. at_s: since the case began.
    data: quoted and shortened, printable ASCII. end: how the connection ended there, in words.
    """

    client: str
    sent: bool
    at_s: float
    data: str = ""
    end: str = ""


@dataclass(frozen=True, slots=True)
class TimedRequest:
    """One request of a history in a diagram. client: its number. began, ended: from 0 to 1, in the order of time.

    words: what was asked and answered, printable ASCII.
    """

    client: int
    began: float
    ended: float
    words: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one case; all text is printable ASCII, whatever the server sent.

    sent: the packets, with the connection's name where there are several. expected, received: where it failed. gone:
    no connection was made. heard: the server has sent something. silent: it failed by waiting. closed: it failed by a
    connection that ended. picture: requests that no order explains. habits: what was overlooked. death: how the server
    ended during the case, with the tail of its stderr. skipped: the case was not run. tries: how often it was run.
    packets: what went over the connections, the last of them where they are many.
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
    """A known bug that the verdicts betray: its name, a sentence, what to do, and the failed cases that show it.

    evidence: the verdicts that betray it, the clearest first. explains: all failed cases that come of it.
    """

    name: str
    sentence: str
    advice: str
    evidence: tuple[Verdict, ...]
    explains: tuple[Verdict, ...]

    @property
    def points(self) -> int:
        """The points that it costs."""
        return sum(verdict.case.points for verdict in self.explains)


@dataclass(frozen=True, slots=True)
class Scorecard:
    """The verdicts of one run, in the order of the table, with what is worth saying about the run as a whole."""

    target: str
    stats_form: str
    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...]
    duration_s: float
    profile: str = PROJECT
    complete: bool = True
    """False where the run was interrupted: the cases that are missing were not run."""
    causes: tuple[Finding, ...] = ()
    """What most likely lies behind the failures, the dearest first."""

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


def percent(points: int, possible: int) -> float:
    """Return points as a percentage with one decimal; it is 100 only where no point is missing."""
    return int(1000 * points / possible) / 10 if possible else 0.0
