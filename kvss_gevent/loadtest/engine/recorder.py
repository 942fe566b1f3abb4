"""Counting in one process: three histograms per command and outcome, failures by name. Reporting is for results.py.

The hot path adds one to a plain dict of microseconds, 0.1 us; once in a while `take` turns those into HdrHistogram's
buckets, so that what travels between processes is small and adds up exactly.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from math import inf
from typing import Any

from kvss_gevent.loadtest.engine.histogram import Histogram

HIT, MISS, ERROR = "hit", "miss", "error"

RESPONSE, SERVICE, LAG = "response", "service", "lag"
KINDS = (RESPONSE, SERVICE, LAG)
"""From the intended start; from the actual send; how late the generator was."""

SERIES: tuple[tuple[str, str], ...] = tuple(
    (command, outcome) for command in ("GET", "PUT", "DEL", "RMW", "OTHER") for outcome in (HIT, MISS, ERROR)
)
"""Commands and outcomes in the order of the recorder's lists; RMW is YCSB's read-modify-write as one operation."""

SERIES_INDEX = {series: index for index, series in enumerate(SERIES)}

Counts = dict[tuple[str, str, str], Histogram]
"""Histograms by (kind, command, outcome)."""


@dataclass(slots=True)
class Tally:
    """What was counted in one stretch of time; parts of other processes and times merge into it by addition."""

    counts: Counts = field(default_factory=dict)
    failures: Counter[str] = field(default_factory=Counter)
    aborted: int = 0
    dropped: int = 0
    unsent: int = 0
    reconnects: int = 0

    def histogram(self, kind: str, command: str, outcome: str) -> Histogram:
        """Return a series' histogram, empty where nothing was counted."""
        return self.counts.setdefault((kind, command, outcome), Histogram())

    def merge(self, other: "Tally") -> None:
        """Add what another part counted."""
        for key, histogram in other.counts.items():
            self.histogram(*key).merge(histogram)
        self.failures.update(other.failures)
        self.aborted += other.aborted
        self.dropped += other.dropped
        self.unsent += other.unsent
        self.reconnects += other.reconnects

    def together(self, kind: str, outcomes: tuple[str, ...] = (HIT, MISS)) -> Histogram:
        """Return all commands' histograms of a kind as one; RMW is left out, its GET and PUT are in it already."""
        whole = Histogram()
        for (of_kind, command, outcome), histogram in self.counts.items():
            if of_kind == kind and outcome in outcomes and command != "RMW":
                whole.merge(histogram)
        return whole

    def requests(self, outcomes: tuple[str, ...] = (HIT, MISS, ERROR)) -> int:
        """Return how many requests ended in one of the outcomes."""
        return self.together(RESPONSE, outcomes).total

    def pack(self) -> dict[str, Any]:
        """Return the part as plain data for a message."""
        return {
            "counts": {"/".join(key): histogram.counts for key, histogram in self.counts.items()},
            "failures": dict(self.failures),
            "totals": [self.aborted, self.dropped, self.unsent, self.reconnects],
        }

    @classmethod
    def unpack(cls, data: dict[str, Any]) -> "Tally":
        """Return the part that `pack` wrote down."""
        counts: Counts = {}
        for name, buckets in data["counts"].items():
            kind, command, outcome = name.split("/")
            counts[kind, command, outcome] = Histogram(buckets)
        return cls(counts, Counter(data["failures"]), *data["totals"])


class Recorder:
    """The counts of one process since the last `take`. Requests whose start is outside begin..end are not counted."""

    __slots__ = ("begin", "end", "failures", "lag", "reconnects", "response", "service")

    def __init__(self) -> None:
        self.begin = inf
        self.end = inf
        # The hot loops keep references to these dicts: `take` empties them and puts no new ones in their places.
        self.response: list[defaultdict[int, int]] = [defaultdict(int) for _ in SERIES]
        self.service: list[defaultdict[int, int]] = [defaultdict(int) for _ in SERIES]
        self.lag: list[defaultdict[int, int]] = [defaultdict(int) for _ in SERIES]
        self.failures: Counter[str] = Counter()
        self.reconnects = 0

    def count(self, series: int, due: float, sent: float, done: float, lag_s: float) -> None:
        """Count one request of an open loop, times in seconds."""
        if self.begin <= due < self.end:
            self.response[series][int((done - due) * 1e6)] += 1
            self.service[series][int((done - sent) * 1e6)] += 1
            self.lag[series][int(lag_s * 1e6)] += 1

    def count_closed(self, series: int, sent: float, done: float) -> None:
        """Count one request of a closed loop, in seconds: it is due when it is sent, so all three are one."""
        if self.begin <= sent < self.end:
            self.response[series][int((done - sent) * 1e6)] += 1

    def count_many(self, series: list[int], sent: list[float], done: list[float]) -> None:
        """Count many requests of a closed loop, in the order in which they were sent; empties the lists."""
        response, begin, end = self.response, self.begin, self.end
        for one, began, ended in zip(series, sent, done, strict=True):
            if begin <= began < end:
                response[one][int((ended - began) * 1e6)] += 1
        series.clear()
        sent.clear()
        done.clear()

    def fail(self, name: str, due: float) -> None:
        """Count the reason of a failure whose latency is counted apart."""
        if self.begin <= due < self.end:
            self.failures[name] += 1

    def take(self) -> Tally:
        """Return what was counted since the last time, and begin anew."""
        part = Tally(failures=self.failures, reconnects=self.reconnects)
        for kind in KINDS:
            for (command, outcome), values_us in zip(SERIES, getattr(self, kind), strict=True):
                if values_us:
                    part.histogram(kind, command, outcome).add_values(values_us)
                    values_us.clear()
        self.failures, self.reconnects = Counter(), 0
        return part
