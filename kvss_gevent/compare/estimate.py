"""Statistics of repeated measurements: a median with an interval, and the ratio of two models with a verdict."""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

CONFIDENCE: Final = 0.95
LEAST_GENERATIONS: Final = 6
"""With fewer pairs there is no verdict."""

LEAST_REPEATS: Final = 2
"""One value has no interval, so it decides nothing."""

BAND: Final = 1.05
"""Two models whose costs differ by a smaller factor are tied: memory layout alone changes a cost by some percent."""

T_95: Final = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""The 97.5 % quantile of Student's t for 1 to 30 degrees of freedom; for more it hardly changes."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A median with an interval, from n repeats. covers: the probability that the interval contains the true median."""

    median: float
    low: float
    high: float
    n: int
    covers: float = CONFIDENCE


def estimate(values: Sequence[float]) -> Estimate:
    """Return the median with the narrowest interval between two of the values that covers it with 95 %.

    This works for any distribution. The true median is outside the interval from the k-th smallest to the k-th largest
    of n values with the same probability as fewer than k heads, or fewer than k tails, in n tosses of a coin. Five or
    fewer values cannot reach 95 %: their interval is their range, which covers less, such as 75 % with three values.
    """
    ordered = sorted(values)
    n = len(ordered)
    from_end = 1
    while from_end < n / 2 and _coverage(n, from_end + 1) >= CONFIDENCE:
        from_end += 1
    return Estimate(statistics.median(ordered), ordered[from_end - 1], ordered[n - from_end], n, _coverage(n, from_end))


def _coverage(n: int, from_end: int) -> float:
    return 1.0 - sum(math.comb(n, heads) for heads in range(from_end)) / 2.0 ** (n - 1)


def judge(found: Estimate, holds: Callable[[float], bool]) -> bool | None:
    """Tell whether something holds for a whole interval; None if it holds for one end only, or with one repeat."""
    if found.n < LEAST_REPEATS:
        return None
    low, high = holds(found.low), holds(found.high)
    return low if low is high else None


def judge_all(found: Iterable[Estimate | None], holds: Callable[[float], bool]) -> bool | None:
    """Tell whether something holds for all intervals: False if it fails for one, None if one is missing or open."""
    judged = [None if one is None else judge(one, holds) for one in found]
    return False if False in judged else None if None in judged else True


class Standing(Enum):
    """The verdict on a model's cost compared with another model's."""

    AHEAD = "ahead"
    TIED = "tied"
    BEHIND = "behind"
    OPEN = "not determined"


@dataclass(frozen=True, slots=True)
class Ratio:
    """The cost of one model as a multiple of another's: the mean over n generations of servers, with its interval."""

    value: float
    low: float
    high: float
    n: int

    @property
    def verdict(self) -> Standing:
        """Tied if the interval lies within the band around 1, ahead or behind if it lies outside, else open."""
        if self.n < LEAST_GENERATIONS:
            return Standing.OPEN
        if self.low >= 1 / BAND and self.high <= BAND:
            return Standing.TIED
        if self.high < 1 / BAND:
            return Standing.AHEAD
        return Standing.BEHIND if self.low > BAND else Standing.OPEN

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f} to {self.high:.2f}]"


def paired_ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """Return the ratio of two costs, given for each generation, with the t-interval of the mean of its logarithm.

    The two costs of a generation were measured in turn, within milliseconds of each other, so that changes of the
    machine cancel out. Needs at least two generations and costs above 0.
    """
    logs = [math.log(one / other) for one, other in zip(ours, theirs, strict=True)]
    n = len(logs)
    mean = statistics.fmean(logs)
    half = T_95[min(n - 1, len(T_95)) - 1] * statistics.stdev(logs) / math.sqrt(n)
    return Ratio(math.exp(mean), math.exp(mean - half), math.exp(mean + half), n)
