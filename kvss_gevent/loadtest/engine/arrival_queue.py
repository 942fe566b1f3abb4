"""Gives due requests to users: from a queue for each user, or from one queue to any free user.

With a queue for each user, a request waits for one connection from its due time on, like in a client with one
connection. With a shared queue, it takes the next free connection, like in a client with a connection pool. If none is
free, another connection is opened, at most one for each user.
"""

from collections import deque
from collections.abc import Iterator
from math import inf
from random import Random
from typing import Any

import gevent
from greenlet import getcurrent

from kvss_gevent.loadtest.engine.clock import Timer, clock
from kvss_gevent.loadtest.load_options import Options
from kvss_gevent.loadtest.workload.arrivals import Arrivals, constant_steps, poisson_steps


class UserQueue:
    """The due times that wait for one user, and the user's greenlet while it waits for a due time."""

    __slots__ = ("connected", "due", "greenlet")

    def __init__(self, due: deque[float]) -> None:
        self.due = due
        self.greenlet: Any = None
        self.connected = False


class ArrivalQueue:
    """The backlog of one process: requests that are due and not yet sent. A full queue drops further requests."""

    def __init__(self, arrivals: Arrivals, bound: int, shared: bool, rng: Random | None) -> None:
        """Without rng, users take turns. With rng they are chosen at random, so that Poisson arrivals stay Poisson."""
        self.arrivals = arrivals
        self.due = self.dropped = 0
        """How many requests were due in the window, and how many of them were dropped."""
        self._bound = bound
        self._rng = rng
        self._turn = 0
        self._window = (inf, inf)
        self._queues: list[UserQueue] = []
        self._idle: dict[UserQueue, None] = {}
        self._woken: list[UserQueue] = []
        self._shared: deque[float] | None = deque() if shared else None
        self._nobodys: deque[float] = deque()
        self._timer = Timer(self._ring)
        self._hub: Any = gevent.get_hub()

    def join(self) -> UserQueue:
        """Return the queue of a new user."""
        queue = UserQueue(deque() if self._shared is None else self._shared)
        self._queues.append(queue)
        if self._shared is None and self._nobodys:
            queue.due.extend(self._nobodys)
            self._nobodys.clear()
        return queue

    def leave(self, queue: UserQueue) -> None:
        """Remove a user's queue, and give its due times to the other users."""
        if queue not in self._queues:
            return
        self._queues.remove(queue)
        self._idle.pop(queue, None)
        if self._shared is None:
            for due in queue.due:
                self._put(due)
            queue.due.clear()
            self._wake_soon()

    def set_window(self, begin: float, end: float) -> None:
        """Count requests due from begin to end, times of clock(); none is due after that."""
        if begin != self._window[0]:
            self.due = self.dropped = 0
        self._window = (begin, end)
        self.arrivals.ends = end
        if end <= clock():
            for queue in list(self._idle):
                self._choose(queue)
            self._wake_soon()

    def take(self, queue: UserQueue) -> float:
        """Wait for a due time of this user and return the oldest; 0.0 if no request will be due any more."""
        while True:
            if queue.due:
                return queue.due.popleft()
            now = clock()
            if self.arrivals.next_due <= now < self.arrivals.ends:
                self.advance(now)
                self._wake_soon()
                continue
            if self.arrivals.next_due >= self.arrivals.ends or now >= self.arrivals.ends:
                self.advance(now)
                if not queue.due:
                    return 0.0
                continue
            self._wait(queue)

    def advance(self, now: float) -> int:
        """Put all due requests into queues; returns the length of the backlog."""
        begin, end = self._window
        for due in self.arrivals.take_until(now):
            if begin <= due < end:
                self.due += 1
            self._put(due)
        return self.backlog()

    def backlog(self) -> int:
        """Return how many requests are due and not yet taken."""
        if self._shared is not None:
            return len(self._shared)
        return sum(len(queue.due) for queue in self._queues) + len(self._nobodys)

    def waiting(self) -> Iterator[float]:
        """Yield the due times of the backlog."""
        if self._shared is not None:
            yield from self._shared
            return
        for queue in self._queues:
            yield from queue.due
        yield from self._nobodys

    def close(self) -> None:
        """Release the timer."""
        self._timer.close()

    def _put(self, due: float) -> None:
        if self._shared is not None:
            queue = self._free()
            target = self._shared
        elif self._queues:
            queue = self._next()
            target = queue.due
        else:
            queue, target = None, self._nobodys
        if len(target) >= self._bound:
            begin, end = self._window
            self.dropped += begin <= due < end
            return
        target.append(due)
        if queue is not None and queue in self._idle:
            self._choose(queue)

    def _next(self) -> UserQueue:
        if self._rng is not None:
            return self._queues[int(self._rng.random() * len(self._queues))]
        self._turn += 1
        return self._queues[self._turn % len(self._queues)]

    def _free(self) -> UserQueue | None:
        """Return the user that began to wait last, among the connected ones if there are any."""
        fresh = None
        for queue in reversed(self._idle):
            if queue.connected:
                return queue
            fresh = queue
        return fresh

    def _wait(self, queue: UserQueue) -> None:
        queue.greenlet = getcurrent()
        self._idle[queue] = None
        self._timer.arm(min(self.arrivals.next_due, self.arrivals.ends))
        try:
            self._hub.switch()
        finally:
            queue.greenlet = None
            self._idle.pop(queue, None)

    def _choose(self, queue: UserQueue) -> None:
        del self._idle[queue]
        self._woken.append(queue)

    def _wake_soon(self) -> None:
        if self._woken:
            self._hub.loop.run_callback(self._wake)

    def _wake(self) -> None:
        woken, self._woken = self._woken, []
        for queue in woken:
            # A greenlet that was killed after it was chosen no longer waits.
            if queue.greenlet is not None:
                queue.greenlet.switch()

    def _ring(self) -> None:
        now = clock()
        self.advance(now)
        if now >= self.arrivals.ends:
            for queue in list(self._idle):
                self._choose(queue)
        self._wake()
        if self._idle:
            self._timer.arm(min(self.arrivals.next_due, self.arrivals.ends))


def open_arrival_queue(options: Options, users: int, worker: int, workers: int) -> ArrivalQueue | None:
    """Return the queue of one process of a run, which has a share of the rate; None in a closed loop.

    users: those of all processes together. worker: the number of this process, from 0 on.
    """
    if options.rates is None:
        return None
    rng = Random(f"{options.seed}/{worker}/arrivals") if options.arrival == "poisson" else None
    step = poisson_steps(rng) if rng else constant_steps
    # The processes begin at different parts of a step, so that all requests together are evenly spaced.
    phase = 1.0 if rng else (worker + 0.5) / workers
    arrivals = Arrivals(options.rates, step, clock(), 1 / workers, phase)
    bound = options.backlog * (max(users // workers, 1) if options.shares_queue else 1)
    return ArrivalQueue(arrivals, bound, options.shares_queue, rng)
