"""One process's part of a run: its users, what they share, the measured window, and the counts."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from math import inf
from random import Random
from typing import Protocol

import gevent

from kvss_gevent.loadtest.engine.arrival_queue import open_arrival_queue
from kvss_gevent.loadtest.engine.clock import clock
from kvss_gevent.loadtest.engine.load_connection import LoadConnection
from kvss_gevent.loadtest.engine.messages import RunPlan, Update
from kvss_gevent.loadtest.engine.recorder import Recorder, Tally
from kvss_gevent.loadtest.engine.standstill import StandstillWatch
from kvss_gevent.loadtest.load_options import Options
from kvss_gevent.loadtest.workload.lifetimes import Lifetimes
from kvss_gevent.loadtest.workload.mix import user_seed
from kvss_gevent.loadtest.workload.proving_values import Ledger
from kvss_gevent.loadtest.workload.shared_columns import SharedColumns
from kvss_gevent.measure.process_usage import cpu_wait_s

TICK_S = 0.25
"""How often the counts are taken from the dicts of the hot path."""

_IN_VAIN_S = 0.1
NO_REPLY = "no reply until the run ended"


class RunUser(Protocol):
    """What a run needs from its users."""

    connection: LoadConnection | None
    down_since: float | None
    depth: int

    def owed(self) -> list[float]:
        """Return the due times of requests that were taken and have not ended."""

    def flush(self) -> None:
        """Hand over what has been counted."""


class Run:
    """Users, ledger, recorder and arrivals of one process, from the start of its users to the end of the drain."""

    def __init__(self, options: Options, plan: RunPlan, client_id: str, deliver: Callable[[Update], None]) -> None:
        self.options = options
        self.plan = plan
        self.worker = plan.workers.index(client_id) if client_id in plan.workers else 0
        self.workers = max(len(plan.workers), 1)
        self.recorder = Recorder()
        self._shared = self._join_columns()
        part = (self.worker, self.workers)
        self.ledger = Ledger(options.keys, plan.token.encode(), part, plan.loaded, self._shared)
        self.ledger.verifies = options.verify
        self.ledger.lifetimes = Lifetimes(options.ttl, options.timeout) if options.ttl else None
        self.users: set[RunUser] = set()
        self.closing = False
        self.closed = False
        self.resets = 0
        self._user_number = 0
        self._summary: dict[str, float] = {}
        self._deliver = deliver
        self._drained = False
        self._due_told = 0
        self._backlog_at_begin = 0
        self._noted_at = self._cpu_at_begin = self._wait_at_begin = 0.0
        # With all of Locust imported, a full garbage collection pauses for 20 to 35 ms; after a freeze, for 0.01 ms.
        gc.collect()
        gc.freeze()
        self.standstill = StandstillWatch()
        self.arrival_queue = open_arrival_queue(options, plan.users, *part)
        self._greenlets = [gevent.spawn(self._ticking), gevent.spawn(self._sweeping)]

    def _join_columns(self) -> SharedColumns | None:
        """Return the columns that the processes of the run share; None if they share nothing."""
        if self.workers == 1 or not self.plan.loaded or not self.options.verify:
            return None
        try:
            return SharedColumns(self.plan.token, self.options.keys, self.worker, self.workers)
        except OSError:
            return None  # Without shared memory, each process verifies only its own keys.

    def next_user(self) -> tuple[int, Random]:
        """Return a new user's number in this process and its own random stream."""
        number = self._user_number
        self._user_number += 1
        return number, Random(user_seed(self.options.seed, self.worker, number))

    def set_share(self, share: float) -> None:
        """Change this process's part of the rate: its part of all users."""
        if self.arrival_queue is not None:
            now = clock()
            self.arrival_queue.advance(now)
            self.arrival_queue.arrivals.set_share(share, now)

    def measure(self, begin: float, measure_s: float, is_dead: Callable[[], bool]) -> float:
        """Measure from `begin` on, then drain; end early if is_dead() is true. Returns the length of the drain."""
        self.open_window(begin, measure_s)
        end = self.recorder.end
        while clock() < end and not self.closed and not is_dead():
            gevent.sleep(min(max(end - clock(), 0), 0.25))
        whole = clock() >= end
        self.end_window()
        drain_begun = clock()
        while self.busy() and not self.closed and clock() < drain_begun + self.options.drain and not is_dead():
            gevent.sleep(0.01)
        drain_s = clock() - drain_begun
        self._drained = whole and not is_dead()
        self.close()
        return drain_s

    def open_window(self, begin: float, measure_s: float) -> None:
        """Count requests due from `begin`, a time of clock(), for measure_s seconds."""
        now = clock()
        # Requests due until now were handed out without being counted, so the window cannot begin earlier.
        begin = max(begin, now)
        end = begin + measure_s
        if self.arrival_queue is not None:
            self.arrival_queue.advance(now)
            self.arrival_queue.arrivals.set_origin(begin, now)
            self.arrival_queue.set_window(begin, end)
        self.recorder.begin, self.recorder.end = begin, end
        self._due_told = 0
        self._noted_at = 0.0
        gevent.spawn_later(max(begin - clock(), 0), self._note_begin)

    def reset(self, resets: int) -> None:
        """Restart the measured window now. Requests due before are not counted; the end stays the same.

        Before the window and after its end this changes nothing.
        """
        now = clock()
        self.resets = resets
        if not self.recorder.begin < now or self.closing:
            return
        self._take()
        self.recorder.begin = now
        self._due_told = 0
        if self.arrival_queue is not None:
            self.arrival_queue.advance(now)
            self.arrival_queue.set_window(now, self.recorder.end)
        self._note_begin()

    def end_window(self) -> None:
        """Let no further request become due; requests under way may still end."""
        self.recorder.end = min(self.recorder.end, clock())
        if self.arrival_queue is not None:
            self.arrival_queue.advance(self.recorder.end)
            self.arrival_queue.set_window(self.recorder.begin, self.recorder.end)
        self._summary = self.summary()
        self.closing = True

    def summary(self) -> dict[str, float]:
        """Return the figures of the window besides counts, so far or at its end, as plain data for a message.

        Shares are of one core. `owed`: the number of requests that are due or under way. `under_way_s`: the sum of the
        times for which sent requests have waited for replies. `offered`: the number of requests due by the rate, in
        all processes together.
        """
        if self.closing:
            return self._summary
        now = clock()
        begin, end = self.recorder.begin, min(now, self.recorder.end)
        noted_s = max(now - self._noted_at, 1e-9)
        connections = [user.connection for user in self.users if user.connection is not None]
        measured_s = max(end - begin, 0.0)
        offered = self.arrival_queue.arrivals.expected(begin, end) if self.arrival_queue and measured_s else 0.0
        stood_s, most_s, waited_s = self.standstill.total_s(begin, end) if measured_s else (0.0, 0.0, 0.0)
        waited = sum(one.waiting * (now - max(one.sent_at, begin)) for one in connections if one.waiting)
        return {
            "cpu_share": (time.process_time() - self._cpu_at_begin) / noted_s if self._noted_at else 0.0,
            "wait_share": (cpu_wait_s() - self._wait_at_begin) / noted_s if self._noted_at else 0.0,
            "begins": begin,
            "ends": end,
            "measured_s": measured_s,
            "concurrency": sum(user.depth for user in self.users),
            "owed": self.busy() if measured_s else 0,
            "under_way_s": waited if measured_s else 0.0,
            "offered": offered,
            "backlog_at_begin": self._backlog_at_begin,
            "stood_still_s": stood_s,
            "stood_still_most_s": most_s,
            "stood_still_waiting_s": waited_s,
            "connections": len(connections),
            "deepest": max((user.depth for user in self.users), default=0),
        }

    def busy(self) -> int:
        """Return how many requests are under way or due and not yet sent."""
        backlog = self.arrival_queue.advance(clock()) if self.arrival_queue is not None else 0
        return backlog + sum(len(user.owed()) for user in self.users)

    def abort(self, user: RunUser) -> None:
        """Count the requests that a user has under way when it is stopped."""
        now = clock()
        tally = self.recorder.tally
        # Only a request that was sent before the drain, and not a moment ago, has waited in vain.
        waited_s = now - user.connection.sent_at if user.connection is not None else 0.0
        in_vain = self._drained and waited_s >= max(self.options.drain, _IN_VAIN_S)
        begin = self.recorder.begin
        for owed in user.owed():
            # A request due before the window has then waited for the whole window, and counts from its begin.
            due = max(owed, begin) if in_vain else owed
            if not self.recorder.counts(due):
                continue
            self.recorder.censor(due, now)
            if in_vain:
                tally.unanswered += 1
                tally.failures[NO_REPLY] += 1
            else:
                tally.aborted += 1
            # In a closed loop a request is due when it is sent, and this one has not been counted as due yet.
            tally.due += self.arrival_queue is None or owed < begin

    def close(self) -> None:
        """Count the remaining requests, and deliver the last counts. A second call does nothing."""
        if self.closed:
            return
        if not self.closing:
            self.end_window()
        self.closed = True
        if self._shared is not None:
            self._shared.forget_name()
        for user in list(self.users):
            user.flush()
            self.abort(user)
        if self.arrival_queue is not None:
            now = clock()
            for due in self.arrival_queue.waiting():
                if self.recorder.counts(due):
                    self.recorder.tally.unsent += 1
                    self.recorder.censor(due, now)
        self._tick()
        self.recorder.begin = inf
        if self.arrival_queue is not None:
            self.arrival_queue.close()
        gevent.killall(
            [one for one in (*self._greenlets, self.standstill.greenlet) if one is not gevent.getcurrent()], block=False
        )

    def _note_begin(self) -> None:
        self._take_bytes()
        self.recorder.tally.bytes = 0
        self._noted_at = clock()
        self._cpu_at_begin = time.process_time()
        self._wait_at_begin = cpu_wait_s()
        self._backlog_at_begin = self.arrival_queue.backlog() if self.arrival_queue is not None else 0

    def _ticking(self) -> None:
        while not self.closed:
            gevent.sleep(TICK_S)
            if not self.closed:
                self._tick()

    def _tick(self) -> None:
        now = clock()
        backlog = self.arrival_queue.advance(now) if self.arrival_queue is not None else 0
        tally = self._take()
        down = [now - user.down_since for user in self.users if user.down_since is not None]
        down_s = min(down) if down and len(down) == len(self.users) else 0.0
        # These counts are of the time since the last tick; the middle of that time decides to which second they belong.
        begin = self.recorder.begin
        second = int(max(now - begin - TICK_S / 2, 0)) if begin < now else -1
        self._deliver(Update(second, tally, backlog, len(self.users), down_s, self.resets, self.summary()))

    def _take(self) -> Tally:
        for user in self.users:
            user.flush()
        self._take_bytes()
        tally = self.recorder.take()
        queue = self.arrival_queue
        if queue is not None:
            tally.due += queue.due - self._due_told
            self._due_told = queue.due
            tally.dropped, queue.dropped = queue.dropped, 0
        return tally

    def _take_bytes(self) -> None:
        for user in self.users:
            if user.connection is not None:
                self.recorder.tally.bytes += user.connection.received_bytes
                user.connection.received_bytes = 0

    def _sweeping(self) -> None:
        """End waits longer than the timeout. One look a second costs less than a timer for each request."""
        limit_s = self.options.timeout
        while not self.closed:
            gevent.sleep(min(1.0, limit_s / 2))
            oldest = clock() - limit_s
            for user in self.users:
                connection = user.connection
                if connection is not None and connection.waiting and connection.sent_at < oldest:
                    connection.expire()
