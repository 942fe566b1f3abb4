"""Puts the updates of all processes of a run together: the whole, and one row a second. Figures are for results.py."""

from collections import deque
from dataclasses import dataclass, field

from kvss_gevent.loadtest.engine.messages import Update
from kvss_gevent.loadtest.engine.recorder import ERROR, HIT, MISS, RESPONSE, SERVICE, Tally
from kvss_gevent.loadtest.report import hdr_log

_OPEN_ROWS = 10
"""Seconds after which a row's histograms are boiled down: updates of slow processes arrive within that."""
_MAX_ROWS = 100_000


@dataclass(frozen=True, slots=True)
class Interval:
    """One second of the window (the last ones are the drain's); latencies in microseconds, 0 where nothing ended."""

    second: int
    requests: int
    errors: int
    p50_us: int
    p99_us: int
    max_us: int
    service_p99_us: int
    backlog: int
    users: int


@dataclass(slots=True)
class _OpenRow:
    part: Tally = field(default_factory=Tally)
    backlog: dict[str, int] = field(default_factory=dict)
    users: dict[str, int] = field(default_factory=dict)


class Collector:
    """The whole of a run so far, whatever the number of processes."""

    def __init__(self) -> None:
        self.whole = Tally()
        self.rows: deque[Interval] = deque(maxlen=_MAX_ROWS)
        self.log: deque[tuple[float, float, str, int]] = deque(maxlen=_MAX_ROWS)
        self.max_backlog = 0
        self.down_s: dict[str, float] = {}
        self.summaries: dict[str, dict[str, float]] = {}
        self.counted: dict[str, int] = {}
        self._open: dict[int, _OpenRow] = {}
        self._backlogs: dict[str, int] = {}

    def add(self, client_id: str, update: Update) -> None:
        """Add one process's update."""
        self.whole.merge(update.part)
        self.counted[client_id] = self.counted.get(client_id, 0) + update.part.requests()
        self.down_s[client_id] = update.down_s
        self.summaries[client_id] = update.summary
        self._backlogs[client_id] = update.backlog
        self.max_backlog = max(self.max_backlog, sum(self._backlogs.values()))
        if update.second < 0:
            return
        row = self._open.setdefault(update.second, _OpenRow())
        row.part.merge(update.part)
        row.backlog[client_id] = max(update.backlog, row.backlog.get(client_id, 0))
        row.users[client_id] = update.users
        for second in sorted(self._open):
            if second >= update.second - _OPEN_ROWS:
                break
            self._close_row(second)

    def finish(self) -> None:
        """Close every row; nothing is added afterwards."""
        for second in sorted(self._open):
            self._close_row(second)

    def recent(self, seconds: int = 10) -> Tally:
        """Return what was counted in the last seconds, as one part."""
        part = Tally()
        for second in sorted(self._open)[-seconds:]:
            part.merge(self._open[second].part)
        return part

    def _close_row(self, second: int) -> None:
        row = self._open.pop(second)
        good = row.part.together(RESPONSE)
        p50_us, p99_us = good.percentiles((50, 99))
        service = row.part.together(SERVICE) if any(key[0] == SERVICE for key in row.part.counts) else good
        self.rows.append(
            Interval(
                second,
                row.part.requests((HIT, MISS, ERROR)),
                row.part.requests((ERROR,)),
                p50_us,
                p99_us,
                good.max_us,
                service.percentile(99),
                sum(row.backlog.values()),
                sum(row.users.values()),
            )
        )
        self.log.append((float(second), 1.0, hdr_log.encode(good), good.max_us))
