"""Medians with intervals, and what they say about a difference. Pure: numbers in, numbers out."""

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

RESAMPLES = 1000
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A median with the ends of its bootstrap interval, from n repeats."""

    median: float
    low: float
    high: float
    n: int

    def overlaps(self, other: "Estimate") -> bool:
        """Tell whether two intervals have a value in common."""
        return self.low <= other.high and other.low <= self.high


def estimate(values: Sequence[float]) -> Estimate:
    """Return the median and its percentile bootstrap interval (B. Efron, 1979); at least one value.

    With three to five repeats the interval is nearly the range of the values, and says no more than that.
    """
    return _estimate(tuple(sorted(values)))


@lru_cache(maxsize=10_000)
def _estimate(values: tuple[float, ...]) -> Estimate:
    pick = random.Random(1)  # the same rows make the same report
    medians = sorted(statistics.median(pick.choices(values, k=len(values))) for _ in range(RESAMPLES))
    tail = int(RESAMPLES * (1 - CONFIDENCE) / 2)
    return Estimate(statistics.median(values), medians[tail], medians[-1 - tail], len(values))


def ratio(over: Sequence[float], under: Sequence[float]) -> Estimate:
    """Return the ratio of two medians with its bootstrap interval; the two were measured independently."""
    pick = random.Random(1)
    ratios = sorted(
        statistics.median(pick.choices(over, k=len(over))) / statistics.median(pick.choices(under, k=len(under)))
        for _ in range(RESAMPLES)
    )
    tail = int(RESAMPLES * (1 - CONFIDENCE) / 2)
    return Estimate(
        statistics.median(over) / statistics.median(under), ratios[tail], ratios[-1 - tail], min(len(over), len(under))
    )
