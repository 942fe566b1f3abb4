"""One user's absolute schedule in open loop: when each request is due. Waiting is for timer.py."""

from collections import deque
from collections.abc import Callable
from math import inf
from random import Random


class Schedule:
    """Due times in seconds of one clock; those not yet taken are the backlog, which has a bound.

    Due times never depend on when requests were sent or answered: that is what makes the loop open. A gap is a number
    of seconds where the rate never changes, and a function of the due time before it where it does.
    """

    __slots__ = ("_bound", "_gap", "_gap_s", "_queue", "dropped", "ends", "next_due")

    def __init__(self, first: float, gap: float | Callable[[float], float], bound: int) -> None:
        self.next_due = first
        self.ends = inf
        self.dropped: list[tuple[float, int]] = []
        self._gap_s, self._gap = (0.0, gap) if callable(gap) else (gap, float)
        self._bound = bound
        self._queue: deque[float] = deque()

    def advance(self, now: float) -> int:
        """Queue what has become due; returns the length of the backlog."""
        due, gap_s, queue = self.next_due, self._gap_s, self._queue
        while due <= now and due < self.ends:
            if len(queue) < self._bound:
                queue.append(due)
            else:
                self.dropped.append((due, 1))
                if len(self.dropped) > 1000:
                    self._compact()
            due += gap_s or self._gap(due)
        self.next_due = due
        return len(queue)

    def take(self) -> float:
        """Return the oldest due time of the backlog, which advance() said is not empty."""
        return self._queue.popleft()

    def take_due(self, now: float) -> float:
        """Return the oldest due time up to now that has not been taken, 0.0 where there is none."""
        if self.next_due <= now:
            self.advance(now)
        return self._queue.popleft() if self._queue else 0.0

    def finished(self) -> bool:
        """Tell whether nothing is due any more and nothing waits."""
        return not self._queue and self.next_due >= self.ends

    def waiting_between(self, begin: float, end: float) -> int:
        """Return how many requests due in that time are still in the backlog."""
        return sum(begin <= due < end for due in self._queue)

    def take_dropped(self, begin: float, end: float) -> int:
        """Return how many requests due in that time were dropped since the last call, the backlog being full."""
        dropped, self.dropped = self.dropped, []
        return sum(count for due, count in dropped if begin <= due < end)

    def _compact(self) -> None:
        # A dropped request is remembered by the tenth of a second it was due in: an hour takes 36,000 entries.
        merged: dict[float, int] = {}
        for due, count in self.dropped:
            slot = int(due * 10) / 10
            merged[slot] = merged.get(slot, 0) + count
        self.dropped = list(merged.items())


def constant_gaps(rate_at: Callable[[float], float]) -> Callable[[float], float]:
    """Return a gap function for evenly spaced requests, given the user's rate per second at a time."""
    return lambda due: 1.0 / rate_at(due)


def poisson_gaps(rate_at: Callable[[float], float], rng: Random) -> Callable[[float], float]:
    """Return a gap function for requests that come independently of each other: exponential gaps."""
    draw = rng.expovariate
    return lambda due: draw(rate_at(due))
