"""Combines the updates of all processes of a run: the whole, and one row for each second."""

from collections import deque
from dataclasses import dataclass, field

from kvss_gevent.loadtest.engine.messages import Update
from kvss_gevent.loadtest.engine.recorder import LAG, RESPONSE, SERVICE, Tally
from kvss_gevent.loadtest.report import hdr_log

_OPEN_ROWS = 10
"""Seconds after which a row's histograms are reduced to figures; updates of slow processes arrive before that."""
_MAX_ROWS = 100_000


@dataclass(frozen=True, slots=True)
class Interval:
    """One second of the window or, at the end, of the drain. Latencies are microseconds, 0 if no request ended in it.

    answered: good replies that arrived in it. failed, latencies: of requests that ended in it.
    """

    second: int
    answered: int
    failed: int
    p50_us: int
    p99_us: int
    p99_9_us: int
    max_us: int
    service_p99_us: int
    lag_p99_us: int
    backlog: int
    users: int


@dataclass(slots=True)
class _OpenInterval:
    tally: Tally = field(default_factory=Tally)
    backlog: dict[str, int] = field(default_factory=dict)
    users: dict[str, int] = field(default_factory=dict)


class Collector:
    """The counts of all processes of a run so far."""

    def __init__(self) -> None:
        self.whole = Tally()
        self.rows: deque[Interval] = deque(maxlen=_MAX_ROWS)
        self.log: deque[tuple[float, float, str, int]] = deque(maxlen=_MAX_ROWS)
        self.max_backlog = 0
        self.down_s: dict[str, float] = {}
        self.summaries: dict[str, dict[str, float]] = {}
        self.counted: dict[str, int] = {}
        self._open: dict[int, _OpenInterval] = {}
        self._backlogs: dict[str, int] = {}

    def add(self, client_id: str, update: Update) -> None:
        """Add one process's update."""
        self.whole.merge(update.tally)
        self.counted[client_id] = self.counted.get(client_id, 0) + update.tally.requests()
        self.down_s[client_id] = update.down_s
        self.summaries[client_id] = update.summary
        self._backlogs[client_id] = update.backlog
        self.max_backlog = max(self.max_backlog, self.backlog)
        if update.second < 0:
            return
        row = self._open.setdefault(update.second, _OpenInterval())
        row.tally.merge(update.tally)
        row.backlog[client_id] = max(update.backlog, row.backlog.get(client_id, 0))
        row.users[client_id] = update.users
        for second in sorted(self._open):
            if second >= update.second - _OPEN_ROWS:
                break
            self._close_row(second)

    @property
    def backlog(self) -> int:
        """How many requests are due and not yet sent, by the last reports of the processes."""
        return sum(self._backlogs.values())

    def finish(self) -> None:
        """Close all rows; no update may be added afterwards."""
        for second in sorted(self._open):
            self._close_row(second)

    def recent(self, seconds: int = 10) -> Tally:
        """Return what was counted in the last seconds, as one tally."""
        tally = Tally()
        for second in sorted(self._open)[-seconds:]:
            tally.merge(self._open[second].tally)
        return tally

    def intervals(self) -> list[Interval]:
        """Return all rows so far, including the open ones."""
        return [*self.rows, *(self._interval(second, self._open[second]) for second in sorted(self._open))]

    def _close_row(self, second: int) -> None:
        row = self._open.pop(second)
        self.rows.append(self._interval(second, row))
        good = row.tally.together(RESPONSE)
        self.log.append((float(second), 1.0, hdr_log.encode(good), good.max_us))

    def _interval(self, second: int, row: _OpenInterval) -> Interval:
        tally = row.tally
        good = tally.together(RESPONSE)
        p50_us, p99_us, p99_9_us = good.percentiles((50, 99, 99.9))
        service = tally.together(SERVICE)
        return Interval(
            second,
            tally.answered,
            tally.failed + tally.connect_failed,
            p50_us,
            p99_us,
            p99_9_us,
            good.max_us,
            (service if service.counts else good).percentile(99),
            tally.together(LAG).percentile(99),
            sum(row.backlog.values()),
            sum(row.users.values()),
        )
