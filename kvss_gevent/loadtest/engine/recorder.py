"""Counts requests in one process: histograms for each command and outcome, failures by name, and all other ends.

The hot path adds one in a plain dict of microseconds, which takes 0.1 us. `take` then converts these counts into the
buckets of HdrHistogram, so that messages between processes are small and add up exactly.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from math import inf
from typing import Any

from kvss_gevent.loadtest.engine.histogram import Histogram

HIT, MISS, ERROR = "hit", "miss", "error"

RESPONSE, SERVICE, LAG = "response", "service", "lag"
KINDS = (RESPONSE, SERVICE, LAG)
"""Time from the intended start; time from the actual send; lateness of the generator."""

PARTS = ("RMW GET", "RMW PUT")
"""The two requests of a read-modify-write. Sums do not contain them, because they contain RMW, the whole operation."""

SERIES: tuple[tuple[str, str], ...] = tuple(
    (command, outcome) for command in ("GET", "PUT", "DEL", "RMW", "OTHER", *PARTS) for outcome in (HIT, MISS, ERROR)
)
"""Commands and outcomes in the order of the recorder's lists; RMW is YCSB's read-modify-write as one operation."""

SERIES_INDEX = {series: index for index, series in enumerate(SERIES)}

IS_ANSWER = tuple(outcome != ERROR and command not in PARTS for command, outcome in SERIES)

Counts = dict[tuple[str, str, str], Histogram]
"""Histograms by (kind, command, outcome)."""

_TOTALS = ("due", "unanswered", "aborted", "dropped", "unsent", "connect_failed", "shifted", "reconnects", "bytes")


@dataclass(slots=True)
class Tally:
    """The counts of one period of time. Tallies of other processes and periods are merged into it by addition.

    due: the number of requests that became due. Each of them ends in exactly one place: in a histogram of the kind
    RESPONSE, or in unanswered (sent, but no reply until the run ended), aborted (under way when its user was stopped),
    dropped (the backlog was full), unsent, or connect_failed. shifted: the replies in the window to requests due before
    it, minus the replies after it to requests due in it. censored: how long requests without a reply had waited.
    connect_errors: failed attempts to connect, by name, even if no request waited for them.
    """

    counts: Counts = field(default_factory=dict)
    failures: Counter[str] = field(default_factory=Counter)
    connect_errors: Counter[str] = field(default_factory=Counter)
    censored: Histogram = field(default_factory=Histogram)
    due: int = 0
    unanswered: int = 0
    aborted: int = 0
    dropped: int = 0
    unsent: int = 0
    connect_failed: int = 0
    shifted: int = 0
    reconnects: int = 0
    bytes: int = 0

    def histogram(self, kind: str, command: str, outcome: str) -> Histogram:
        """Return the histogram of a series; it is empty if nothing was counted."""
        return self.counts.setdefault((kind, command, outcome), Histogram())

    def merge(self, other: "Tally") -> None:
        """Add what another tally counted."""
        for key, histogram in other.counts.items():
            self.histogram(*key).merge(histogram)
        self.failures.update(other.failures)
        self.connect_errors.update(other.connect_errors)
        self.censored.merge(other.censored)
        for name in _TOTALS:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def together(self, kind: str, outcomes: tuple[str, ...] = (HIT, MISS)) -> Histogram:
        """Return all commands' histograms of a kind as one."""
        whole = Histogram()
        for (of_kind, command, outcome), histogram in self.counts.items():
            if of_kind == kind and outcome in outcomes and command not in PARTS:
                whole.merge(histogram)
        return whole

    def requests(self, outcomes: tuple[str, ...] = (HIT, MISS, ERROR)) -> int:
        """Return how many requests ended in one of the outcomes."""
        return self.together(RESPONSE, outcomes).total

    @property
    def answered(self) -> int:
        """How many good replies arrived in the period, whenever their requests were due."""
        return self.requests((HIT, MISS)) + self.shifted

    @property
    def failed(self) -> int:
        """How many requests failed: a wrong reply, an error, a lost connection, or no reply until the run ended."""
        return self.requests((ERROR,)) + self.unanswered

    @property
    def unaccounted(self) -> int:
        """How many due requests did not end in any of the places; 0 after a run."""
        ended = self.requests() + self.unanswered + self.connect_failed
        return self.due - ended - self.aborted - self.dropped - self.unsent

    def pack(self) -> dict[str, Any]:
        """Return the tally as plain data for a message."""
        return {
            "counts": {"/".join(key): histogram.counts for key, histogram in self.counts.items()},
            "failures": dict(self.failures),
            "connect_errors": dict(self.connect_errors),
            "censored": self.censored.counts,
            "totals": [getattr(self, name) for name in _TOTALS],
        }

    @classmethod
    def unpack(cls, data: dict[str, Any]) -> "Tally":
        """Return the tally from the data that `pack` made."""
        counts: Counts = {}
        for name, buckets in data["counts"].items():
            kind, command, outcome = name.split("/")
            counts[kind, command, outcome] = Histogram(buckets)
        censored = Histogram(data["censored"])
        failures, connect_errors = Counter(data["failures"]), Counter(data["connect_errors"])
        return cls(counts, failures, connect_errors, censored, **dict(zip(_TOTALS, data["totals"], strict=True)))


class Recorder:
    """The counts of one process since the last `take`. Requests that are due outside begin..end are not counted."""

    __slots__ = ("begin", "end", "lag", "response", "service", "tally")

    def __init__(self) -> None:
        self.begin = inf
        self.end = inf
        # The hot loops keep references to these dicts, so `take` empties them and does not replace them.
        self.response: list[defaultdict[int, int]] = [defaultdict(int) for _ in SERIES]
        self.service: list[defaultdict[int, int]] = [defaultdict(int) for _ in SERIES]
        self.lag: list[defaultdict[int, int]] = [defaultdict(int) for _ in SERIES]
        self.tally = Tally()

    def counts(self, when: float) -> bool:
        """Tell whether a time is in the window."""
        return self.begin <= when < self.end

    def count(self, series: int, due: float, sent: float, done: float, lag_s: float) -> None:
        """Count one request of an open loop, times in seconds."""
        if self.begin <= due < self.end:
            self.response[series][int((done - due) * 1e6)] += 1
            self.service[series][int((done - sent) * 1e6)] += 1
            self.lag[series][int(lag_s * 1e6)] += 1
            if done >= self.end:
                self.tally.shifted -= IS_ANSWER[series]
        elif due < self.begin <= done < self.end:
            self.tally.shifted += IS_ANSWER[series]

    def count_closed(self, series: int, sent: float, done: float, held_s: float = 0.0) -> None:
        """Count one request of a closed loop, in seconds. It is due when it is sent, so response time is service time.

        held_s: how long the generator stood still meanwhile.
        """
        if self.begin <= sent < self.end:
            self.response[series][int((done - sent) * 1e6)] += 1
            self.tally.due += 1
            if held_s:
                self.lag[series][int(held_s * 1e6)] += 1
            if done >= self.end:
                self.tally.shifted -= IS_ANSWER[series]
        elif sent < self.begin <= done < self.end:
            self.tally.shifted += IS_ANSWER[series]

    def count_part(self, series: int, due: float, begun: float, done: float) -> None:
        """Count a request that is part of a read-modify-write; due is the due time of the whole operation."""
        if self.begin <= due < self.end:
            self.response[series][int((done - begun) * 1e6)] += 1

    def count_many(self, series: list[int], sent: list[float], done: list[float]) -> None:
        """Count requests of a closed loop, in the order in which they were sent and answered; empties the lists."""
        if self.begin <= sent[0] and done[-1] < self.end:
            response = self.response
            for one, began, ended in zip(series, sent, done, strict=True):
                response[one][int((ended - began) * 1e6)] += 1
            self.tally.due += len(series)
        else:
            for one, began, ended in zip(series, sent, done, strict=True):
                self.count_closed(one, began, ended)
        series.clear()
        sent.clear()
        done.clear()

    def fail(self, name: str, due: float) -> None:
        """Count the reason of a failure; its latency is counted separately."""
        if self.begin <= due < self.end:
            self.tally.failures[name] += 1

    def censor(self, due: float, now: float) -> None:
        """Count that a due request has no reply until now."""
        if self.begin <= due < self.end:
            self.tally.censored.record(int((now - due) * 1e6))

    def take(self) -> Tally:
        """Return the counts since the last call, and start again at 0."""
        tally, self.tally = self.tally, Tally()
        for kind in KINDS:
            for (command, outcome), values_us in zip(SERIES, getattr(self, kind), strict=True):
                if values_us:
                    tally.histogram(kind, command, outcome).add_values(values_us)
                    values_us.clear()
        return tally
