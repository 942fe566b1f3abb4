"""One process's part of a run: what its users share, its window, its counts."""

from __future__ import annotations

import gc
import time
from functools import partial
from math import inf
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Protocol

import gevent

from kvss_gevent.loadtest.engine.clock import Alarm, clock
from kvss_gevent.loadtest.engine.messages import Update
from kvss_gevent.loadtest.engine.recorder import Recorder
from kvss_gevent.loadtest.workload import arrivals
from kvss_gevent.loadtest.workload.arrivals import Schedule
from kvss_gevent.loadtest.workload.mix import user_seed
from kvss_gevent.loadtest.workload.values import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvss_gevent.loadtest.engine.connection import LoadConnection
    from kvss_gevent.loadtest.engine.messages import RunPlan
    from kvss_gevent.loadtest.engine.recorder import Tally
    from kvss_gevent.loadtest.options import Options

TICK_S = 0.25
"""How often counts leave the hot path's dicts."""


def cpu_wait_s() -> float:
    """Return how long this process has been ready to run while others held the CPU; 0 where Linux does not tell."""
    try:
        return int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


class RunUser(Protocol):
    """What a run asks of its users."""

    connection: LoadConnection | None
    schedule: Schedule | None
    down_since: float | None
    depth: int

    def flush(self) -> None:
        """Hand over what has been counted."""


class Run:
    """Users, ledger, recorder and clock of one process, from the start of its users to the end of the drain."""

    def __init__(self, options: Options, plan: RunPlan, client_id: str, deliver: Callable[[Update], None]) -> None:
        self.options = options
        self.plan = plan
        self.worker = plan.workers.index(client_id) if client_id in plan.workers else 0
        self.workers = max(len(plan.workers), 1)
        self.recorder = Recorder()
        self.ledger = Ledger(options.keys, plan.token.encode(), (self.worker, self.workers), plan.loaded)
        self.ledger.verifies = options.verify
        self.users: set[RunUser] = set()
        self.closing = False
        self.closed = False
        self.resets = 0
        self._summary: dict[str, float] = {}
        self._deliver = deliver
        self._user_number = 0
        self._alarm: Alarm | None = None
        self._aborted = self._unsent = 0
        self._opened_at = inf
        self._noted_at = self._cpu_at_begin = self._wait_at_begin = 0.0
        # A full collection pauses for 20 to 35 ms with all of Locust imported; frozen, for 0.01 ms.
        gc.collect()
        gc.freeze()
        self._greenlets = [gevent.spawn(self._ticking), gevent.spawn(self._sweeping)]

    @property
    def alarm(self) -> Alarm:
        """The process's timer, made when it is first needed."""
        if self._alarm is None:
            self._alarm = Alarm()
        return self._alarm

    def next_user(self) -> tuple[int, Random]:
        """Return a new user's number in this process and its own random stream."""
        number = self._user_number
        self._user_number += 1
        return number, Random(user_seed(self.options.seed, self.worker, number))

    def schedule_for(self, number: int, rng: Random) -> Schedule | None:
        """Return the schedule of a user in open loop, its share of the whole rate; None in closed loop."""
        options = self.options
        if options.rate is None:
            return None
        share = 1 / self.plan.users
        rate_at = partial(self._rate_at, share)
        if options.arrival == "poisson":
            gap: Callable[[float], float] | float = arrivals.poisson_gaps(rate_at, rng)
            first = clock() + rng.expovariate(rate_at(clock()))
        else:
            gap = arrivals.constant_gaps(rate_at) if options.shape is not None else 1.0 / (options.rate * share)
            # Users start at different phases, so that the whole is evenly spaced and not in volleys.
            phase = (number * self.workers + self.worker + 0.5) / self.plan.users
            first = clock() + phase % 1.0 / rate_at(clock())
        schedule = Schedule(first, gap, options.backlog)
        schedule.ends = self.recorder.end
        return schedule

    def _rate_at(self, share: float, due: float) -> float:
        options = self.options
        if options.shape is not None:
            opened_at = self._opened_at
            return options.shape.rate_at(due - opened_at if opened_at < inf else 0.0) * share
        assert options.rate is not None
        return options.rate * share

    def measure(self, warmup_s: float, measure_s: float, is_dead: Callable[[], bool]) -> float:
        """Warm up, measure and drain, or end early where is_dead says so; returns the length of the drain."""
        begin = clock() + warmup_s
        self.open_window(begin, measure_s)
        while clock() < begin + measure_s and not self.closed and not is_dead():
            gevent.sleep(min(max(begin + measure_s - clock(), 0), 0.25))
        self.end_window()
        drain_begun = clock()
        while self.busy() and not self.closed and clock() < drain_begun + self.options.drain and not is_dead():
            gevent.sleep(0.01)
        drain_s = clock() - drain_begun
        self.close()
        return drain_s

    def open_window(self, begin: float, measure_s: float) -> None:
        """Count requests due from `begin`, a time of clock(), for measure_s seconds."""
        self.recorder.begin = self._opened_at = begin
        self.recorder.end = begin + measure_s
        for user in self.users:
            if user.schedule is not None:
                user.schedule.ends = self.recorder.end
        gevent.spawn_later(max(begin - clock(), 0), self._note_cpu)

    def reset(self, resets: int) -> None:
        """Begin the measured window anew: what was due until now is not counted. Its end stays where it is.

        Before the window nothing has been counted, and after its end there is nothing left to count: no change then.
        """
        now = clock()
        self.resets = resets
        if not self.recorder.begin < now or self.closing:
            return
        self._take()
        self._aborted = 0
        self.recorder.begin = now
        self._note_cpu()

    def end_window(self) -> None:
        """Offer nothing more; requests under way may still end."""
        self.recorder.end = min(self.recorder.end, clock())
        self._summary = self.summary()
        self.closing = True
        for user in self.users:
            if user.schedule is not None:
                user.schedule.ends = self.recorder.end

    def summary(self) -> dict[str, float]:
        """Return what the window shows besides counts, so far or at its end, as plain data for a message.

        Shares are of one core; `owed` is how many requests are due or under way, `under_way_s` how long those that
        have been sent have waited for their replies, added up.
        """
        if self.closing:
            return self._summary
        now = clock()
        begin = self.recorder.begin
        noted_s = max(now - self._noted_at, 1e-9)
        sent = [u.connection for u in self.users if u.connection is not None and u.connection.waiting]
        measured_s = max(min(now, self.recorder.end) - begin, 0.0)
        return {
            "cpu_share": (time.process_time() - self._cpu_at_begin) / noted_s if self._noted_at else 0.0,
            "wait_share": (cpu_wait_s() - self._wait_at_begin) / noted_s if self._noted_at else 0.0,
            "measured_s": measured_s,
            "concurrency": sum(user.depth for user in self.users),
            "owed": self.busy() if measured_s else 0,
            "under_way_s": sum(one.waiting * (now - max(one.sent_at, begin)) for one in sent) if measured_s else 0.0,
        }

    def busy(self) -> int:
        """Return how many requests are under way or due and not yet sent."""
        owed = 0
        for user in self.users:
            if user.connection is not None:
                owed += user.connection.waiting
            if user.schedule is not None:
                owed += user.schedule.advance(clock())
        return owed

    def abort(self, connection: LoadConnection) -> None:
        """Count the replies a connection still owes as aborted."""
        if connection.waiting and self.recorder.begin <= connection.sent_at < self.recorder.end:
            self._aborted += connection.waiting

    def close(self) -> None:
        """Count what is left as aborted, unsent or dropped, and deliver the last counts. A second call does nothing."""
        if self.closed:
            return
        if not self.closing:
            self.end_window()
        self.closed = True
        begin, end = self.recorder.begin, self.recorder.end
        for user in list(self.users):
            if user.connection is not None:
                self.abort(user.connection)
            if user.schedule is not None:
                user.schedule.advance(clock())
                self._unsent += user.schedule.waiting_between(begin, end)
        self._tick()
        self.recorder.begin = inf
        for greenlet in self._greenlets:
            if greenlet is not gevent.getcurrent():
                greenlet.kill(block=False)

    def _note_cpu(self) -> None:
        self._noted_at = clock()
        self._cpu_at_begin = time.process_time()
        self._wait_at_begin = cpu_wait_s()

    def _ticking(self) -> None:
        while not self.closed:
            gevent.sleep(TICK_S)
            if not self.closed:
                self._tick()

    def _tick(self) -> None:
        now = clock()
        part = self._take()
        part.aborted, self._aborted = self._aborted, 0
        part.unsent, self._unsent = self._unsent, 0
        backlog = sum(u.schedule.advance(now) for u in self.users if u.schedule is not None)
        down = [now - u.down_since for u in self.users if u.down_since is not None]
        down_s = min(down) if down and len(down) == len(self.users) else 0.0
        # What is taken now was counted since the last tick: the middle of that time says which second it belongs to.
        begin = self.recorder.begin
        second = int(max(now - begin - TICK_S / 2, 0)) if begin < now else -1
        self._deliver(Update(second, part, backlog, len(self.users), down_s, self.resets, self.summary()))

    def _take(self) -> Tally:
        for user in self.users:
            user.flush()
        part = self.recorder.take()
        begin, end = self.recorder.begin, self.recorder.end
        part.dropped = sum(u.schedule.take_dropped(begin, end) for u in self.users if u.schedule is not None)
        return part

    def _sweeping(self) -> None:
        """End waits that last longer than the timeout: one greenlet a second costs less than a timer per request."""
        limit_s = self.options.timeout
        while not self.closed:
            gevent.sleep(min(1.0, limit_s / 2))
            oldest = clock() - limit_s
            for user in self.users:
                connection = user.connection
                if connection is not None and connection.waiting and connection.sent_at < oldest:
                    connection.expire()
