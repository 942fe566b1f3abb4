"""A virtual user of the engine: its connection, its schedule, its counts. The loops in loops.py send its requests."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import gevent

from kvss_gevent.loadtest.engine.clock import clock
from kvss_gevent.loadtest.engine.connection import LoadConnection, Lost
from kvss_gevent.loadtest.engine.run import Run

if TYPE_CHECKING:
    from kvss_gevent.loadtest.workload.arrivals import Schedule

_BACKOFF_LEAST_S, _BACKOFF_MOST_S = 0.05, 1.0


class VirtualUser:
    """The connection, the counters and, in open loop, the schedule of one user."""

    def __init__(self, run: Run, address: tuple[str, int]) -> None:
        self.run = run
        self.address = address
        self.recorder = run.recorder
        self.connection: LoadConnection | None = None
        self.down_since: float | None = None
        self.free_at = 0.0
        self.schedule: Schedule | None = None
        self.depth = 0
        self._backoff_s = _BACKOFF_LEAST_S
        self._rng = Random()
        self.series: list[int] = []
        self.sent: list[float] = []
        self.done: list[float] = []
        run.users.add(self)

    def connect(self) -> LoadConnection | None:
        """Return the connection, made anew where there is none; None after a failure, counted and waited off."""
        if self.connection is not None:
            return self.connection
        try:
            self.connection = LoadConnection(self.address, self.run.options.timeout)
        except Lost as lost:
            now = clock()
            self.down_since = self.down_since or now
            self.recorder.fail(str(lost), now)
            # Users that lost one server at the same moment must not all come back at the same moment.
            gevent.sleep(self._backoff_s * (0.5 + self._rng.random()))
            self._backoff_s = min(self._backoff_s * 2, _BACKOFF_MOST_S)
            return None
        if self.down_since is not None:
            self.recorder.reconnects += 1
        self.down_since = None
        self._backoff_s = _BACKOFF_LEAST_S
        self.free_at = clock()
        return self.connection

    def stop(self) -> None:
        """Say QUIT, count what is still owed as aborted, and leave the run."""
        self.run.users.discard(self)
        connection, self.connection = self.connection, None
        if connection is not None:
            self.run.abort(connection)
            connection.close(quit_first=True)

    def drop(self) -> None:
        """Give up the connection: nothing that still comes on it can be trusted."""
        connection, self.connection = self.connection, None
        if connection is not None:
            self.down_since = clock()
            connection.close()

    def wait_due(self, schedule: Schedule) -> int:
        """Wait until a request is due; returns the length of the backlog, 0 when nothing will be due any more."""
        while not (backlog := schedule.advance(clock())):
            if schedule.finished():
                gevent.sleep(0.02)
                return 0
            self.run.alarm.sleep_until(schedule.next_due)
        return backlog

    def flush(self) -> None:
        """Hand over what the closed loop has counted to the recorder."""
        self.recorder.count_many(self.series, self.sent, self.done)

    def count(self, series: int, due: float, sent: float, done: float) -> None:
        """Count one request, in seconds; in closed loop it is due when it is sent."""
        if self.schedule is None:
            self.recorder.count_closed(series, due, done)
        else:
            self.recorder.count(series, due, sent, done, sent - max(due, self.free_at) if sent > due else 0.0)

    def lost(self, reason: str, owed: list[tuple[int, float]], sent: float) -> None:
        """Count what a connection owed, as (series, due) and sent at a time, as failed, and give the connection up."""
        done = clock()
        for series, start in owed:
            if self.schedule is None:
                self.recorder.count_closed(series, start, done)
            else:
                self.recorder.count(series, start, sent, done, 0.0)
            self.recorder.fail(reason, start)
        self.drop()
