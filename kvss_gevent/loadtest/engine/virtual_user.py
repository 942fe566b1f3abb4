"""A virtual user: its connection, its queue of due requests, and its counts. loops.py sends its requests."""

from __future__ import annotations

from random import Random

import gevent

from kvss_gevent.loadtest.engine.arrival_queue import UserQueue
from kvss_gevent.loadtest.engine.clock import clock
from kvss_gevent.loadtest.engine.load_connection import ConnectionLost, LoadConnection, connected
from kvss_gevent.loadtest.engine.load_run import Run
from kvss_gevent.loadtest.engine.standstill import LEAST_S

_BACKOFF_LEAST_S, _BACKOFF_MOST_S = 0.05, 1.0
NOTHING_SENT = "the task sent no request"
_LATE_S = 0.001
"""Only lateness from this on is passed to the next requests; in overload, many small ones would add up."""


class VirtualUser:
    """One user. In a closed loop it sends after the reply before; in an open loop when a request is due."""

    def __init__(self, run: Run, address: tuple[str, int]) -> None:
        self.run = run
        self.address = address
        self.number, self.rng = run.next_user()
        self.recorder = run.recorder
        self.connection: LoadConnection | None = None
        self.queue: UserQueue | None = None
        self.down_since: float | None = None
        self.free_at = 0.0
        """When the connection was free again, without the delay that the generator's lateness has caused."""
        self.depth = 0
        self.due = 0.0
        """The due time of the request under way in an open loop; 0.0 if there is none."""
        self.batch: list[float] = []
        """The due times of requests that were sent together; `ended` of them have ended."""
        self.ended = 0
        self.series: list[int] = []
        self.sent: list[float] = []
        self.done: list[float] = []
        self._backoff_s = _BACKOFF_LEAST_S
        self._rng = Random()
        run.users.add(self)

    def start(self) -> None:
        """Connect, and join the queue of an open loop. With a shared queue, the first request connects."""
        if self.run.arrival_queue is None or not self.run.options.shares_queue:
            self.connect()
        if self.run.arrival_queue is not None:
            self.queue = self.run.arrival_queue.join()
            self.queue.connected = self.connection is not None

    def connect(self) -> LoadConnection | None:
        """Return the connection, a new one if there is none. After a failure, count it, wait, and return None."""
        if self.connection is not None:
            return self.connection
        try:
            options = self.run.options
            self.connection = connected(self.address, options.timeout, options)
        except ConnectionLost as lost:
            now = clock()
            self.down_since = self.down_since or now
            if self.recorder.counts(now):
                self.recorder.tally.connect_errors[str(lost)] += 1
            # Users that lost a server at the same time must not all reconnect at the same time.
            gevent.sleep(self._backoff_s * (0.5 + self._rng.random()))
            self._backoff_s = min(self._backoff_s * 2, _BACKOFF_MOST_S)
            return None
        if self.queue is not None:
            self.queue.connected = True
        now = clock()
        if self.down_since is not None and self.recorder.counts(now):
            self.recorder.tally.reconnects += 1
        self.down_since = None
        self._backoff_s = _BACKOFF_LEAST_S
        self.free_at = now
        return self.connection

    def stop(self) -> None:
        """Send QUIT, count the requests under way as aborted, and leave the run."""
        if self not in self.run.users:
            return
        self.flush()
        self.run.abort(self)
        self.run.users.discard(self)
        if self.queue is not None and self.run.arrival_queue is not None:
            self.run.arrival_queue.leave(self.queue)
        connection, self.connection = self.connection, None
        if connection is not None:
            self.recorder.tally.bytes += connection.received_bytes
            connection.close(quit_first=True)

    def drop(self) -> None:
        """Close the connection: replies that still arrive on it cannot be trusted."""
        connection, self.connection = self.connection, None
        if connection is not None:
            self.recorder.tally.bytes += connection.received_bytes
            self.down_since = clock()
            connection.close()
        if self.queue is not None:
            self.queue.connected = False

    def take_due(self) -> float:
        """Wait until a request is due, and return its due time; 0.0 if none will be due any more."""
        assert self.queue is not None
        assert self.run.arrival_queue is not None
        self.due = self.run.arrival_queue.take(self.queue)
        return self.due

    def owed(self) -> list[float]:
        """Return the due times of requests that have begun and not ended; in a closed loop, the times of sending."""
        if self.batch:
            return self.batch[self.ended :]
        if self.due:
            return [self.due]
        connection = self.connection
        return [connection.sent_at] * connection.waiting if connection is not None and self.queue is None else []

    def flush(self) -> None:
        """Give the counts of the closed loop to the recorder."""
        if not self.series:
            return
        watch = self.run.standstill
        if watch.last_end > self.sent[0]:
            for one, sent, done in zip(self.series, self.sent, self.done, strict=True):
                self.recorder.count_closed(one, sent, done, watch.overlap_s(sent, done))
            for column in (self.series, self.sent, self.done):
                column.clear()
        else:
            self.recorder.count_many(self.series, self.sent, self.done)

    def count(self, series: int, due: float, sent: float, done: float) -> None:
        """Count one request, in seconds; in a closed loop it is due when it is sent."""
        held_s = self.run.standstill.overlap_s(sent, done) if done - sent > LEAST_S else 0.0
        if self.queue is None:
            self.recorder.count_closed(series, due, done, held_s)
            return
        free_at = self.free_at
        late_s = sent - (due if due > free_at else free_at) + held_s
        self.recorder.count(series, due, sent, done, late_s)
        self.free_at = done if late_s < _LATE_S else done - late_s
        self.due = 0.0

    def connect_failed(self, due: float) -> None:
        """Count a request that needed a new connection and got none."""
        if self.recorder.counts(due):
            self.recorder.tally.connect_failed += 1
            self.recorder.tally.due += self.queue is None
        self.due = 0.0
        self.free_at = clock()

    def unused(self) -> None:
        """Count a due request for which the task sent nothing."""
        if self.recorder.counts(self.due):
            self.recorder.tally.unanswered += 1
            self.recorder.tally.failures[NOTHING_SENT] += 1
        self.due = 0.0

    def lost(self, reason: str, owed: list[tuple[int, float]], sent: float) -> None:
        """Count the requests of a lost connection, (series, due) sent at `sent`, as failed, and close it."""
        done = clock()
        no_reply = self.connection is not None and self.connection.expired
        for series, due in owed:
            self.count(series, due, sent, done)
            self.recorder.fail(reason, due)
            if no_reply:
                self.recorder.censor(due, done)
        self.batch = []
        self.drop()
