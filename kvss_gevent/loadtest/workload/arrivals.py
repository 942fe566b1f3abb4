"""The times at which requests are due in an open loop. They follow the integral of the rate."""

from collections.abc import Callable, Iterator
from math import inf
from random import Random

from kvss_gevent.loadtest.workload.shapes import Shape


class Arrivals:
    """The due times of one process, in seconds of one clock. They never depend on when requests were sent or answered.

    A request is due each time the rate's integral has grown by another step. Steps of 1 give evenly spaced requests;
    exponential steps give a Poisson process, for any shape (D. Cox, P. Lewis: The Statistical Analysis of Series of
    Events, 1966). The shape begins at `origin`; until that is known, its first rate is used.
    """

    __slots__ = ("_last", "_missing", "_origin", "_shape", "_share", "_step", "ends", "next_due")

    def __init__(
        self, shape: Shape, step: Callable[[], float], now: float, share: float = 1.0, phase: float = 1
    ) -> None:
        """Begin now. share is this process's part of the rate; phase is the part of a step before the first arrival."""
        self._shape = shape
        self._step = step
        self._share = share
        self._origin = inf
        self._last = now
        self._missing = step() * phase
        self.ends = inf
        self.next_due = self._find()

    def take_until(self, now: float) -> Iterator[float]:
        """Yield the times up to now at which a request was due."""
        while (due := self.next_due) <= now and due < self.ends:
            self._last = due
            self._missing = self._step()
            self.next_due = self._find()
            yield due

    def set_origin(self, origin: float, now: float) -> None:
        """Set the time at which the shape begins."""
        self._change(now)
        self._origin = origin
        self.next_due = self._find()

    def set_share(self, share: float, now: float) -> None:
        """Change this process's part of the rate from now on."""
        self._change(now)
        self._share = share
        self.next_due = self._find()

    def expected(self, begin: float, end: float) -> float:
        """Return how many requests of all processes together are due in a time."""
        if self._shape.is_flat or self._origin == inf:
            return (end - begin) * self._shape.stages[0].first
        origin = self._origin
        return self._shape.arrivals_until(end - origin) - self._shape.arrivals_until(begin - origin)

    def _change(self, now: float) -> None:
        """Subtract what has passed since the last arrival from the current step."""
        if now > self._last:
            self._missing = max(self._missing - self._share * self.expected(self._last, now), 0.0)
            self._last = now

    def _find(self) -> float:
        if not self._share:
            return inf
        needed = self._missing / self._share
        first = self._shape.stages[0].first
        if self._shape.is_flat or self._origin == inf:
            return self._last + needed / first if first else inf
        passed = self._shape.arrivals_until(self._last - self._origin)
        return max(self._origin + self._shape.time_of(passed + needed), self._last)


def constant_steps() -> float:
    """Return the step between evenly spaced requests."""
    return 1.0


def poisson_steps(rng: Random) -> Callable[[], float]:
    """Return a function that draws the steps of a Poisson process."""
    draw = rng.expovariate
    return lambda: draw(1.0)
