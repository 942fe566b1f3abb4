"""A histogram of microseconds with the buckets of HdrHistogram, as one dict.

Values from 0 to one hour, 3 significant digits, unit 1 us: the layout of HdrHistogram(1, 3_600_000_000, 3).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import sqrt
from typing import Final

LOWEST_US: Final = 1
HIGHEST_US: Final = 3_600_000_000
SIGNIFICANT_DIGITS: Final = 3
SUB_BUCKETS: Final = 2048
"""The smallest power of two that is at least 2 * 10**3."""
HALF: Final = SUB_BUCKETS // 2
HALF_BITS: Final = 10
_MASK: Final = SUB_BUCKETS - 1
_MASK_BITS: Final = HALF_BITS + 1


def index_of(value_us: int) -> int:
    """Return the bucket that counts a value; values under 0 count as 0, values over HIGHEST_US as HIGHEST_US."""
    if value_us < SUB_BUCKETS:
        return max(value_us, 0)
    value_us = min(value_us, HIGHEST_US)
    bucket = value_us.bit_length() - _MASK_BITS
    return (bucket << HALF_BITS) + (value_us >> bucket)


def lowest_us(index: int) -> int:
    """Return the least value that a bucket counts."""
    if index < SUB_BUCKETS:
        return index
    bucket = (index >> HALF_BITS) - 1
    return ((index & (HALF - 1)) + HALF) << bucket


def width_us(index: int) -> int:
    """Return how many microseconds a bucket covers."""
    return 1 if index < SUB_BUCKETS else 1 << ((index >> HALF_BITS) - 1)


def highest_us(index: int) -> int:
    """Return the greatest value that a bucket counts: what HdrHistogram reports for every value in it."""
    return lowest_us(index) + width_us(index) - 1


BUCKETS: Final = (HIGHEST_US.bit_length() - _MASK_BITS + 2) << HALF_BITS
"""The length of HdrHistogram's array of counts."""


class Histogram:
    """Counts by bucket. Histograms are merged by addition, so merged parts are exactly the whole."""

    __slots__ = ("counts",)

    def __init__(self, counts: Mapping[int, int] | None = None) -> None:
        self.counts: dict[int, int] = dict(counts) if counts else {}

    def record(self, value_us: int, count: int = 1) -> None:
        """Count one value."""
        index = index_of(value_us)
        self.counts[index] = self.counts.get(index, 0) + count

    def add_values(self, values_us: Mapping[int, int]) -> None:
        """Count many values, given as {microseconds: how often}."""
        counts = self.counts
        for value_us, count in values_us.items():
            index = index_of(value_us)
            counts[index] = counts.get(index, 0) + count

    def merge(self, other: "Histogram | Mapping[int, int]") -> None:
        """Add the counts of another histogram, or of its `counts`."""
        counts = self.counts
        for index, count in (other.counts if isinstance(other, Histogram) else other).items():
            counts[index] = counts.get(index, 0) + count

    def values(self) -> Iterator[tuple[int, int]]:
        """Yield (the least value of a bucket, its count) in no order."""
        for index, count in self.counts.items():
            yield lowest_us(index), count

    def corrected(self, interval_us: int) -> "Histogram":
        """Return what would have been counted if a request had been sent every interval_us microseconds.

        While a request took longer than the interval, further requests would have been due, and each would have waited
        for the rest of this time. This is HdrHistogram's correction for coordinated omission.
        """
        whole = Histogram(self.counts)
        for index, count in self.counts.items():
            missing_us = lowest_us(index) + (width_us(index) >> 1) - interval_us
            while interval_us > 0 and missing_us >= interval_us:
                whole.record(missing_us, count)
                missing_us -= interval_us
        return whole

    @property
    def total(self) -> int:
        """How many values were counted."""
        return sum(self.counts.values())

    @property
    def max_us(self) -> int:
        """The greatest value the top bucket counts; 0 when empty."""
        return highest_us(max(self.counts)) if self.counts else 0

    @property
    def min_us(self) -> int:
        """The least value the bottom bucket counts; 0 when empty."""
        return lowest_us(min(self.counts)) if self.counts else 0

    @property
    def mean_us(self) -> float:
        """The mean, with the middle of its bucket for every value; 0 when empty."""
        total = self.total
        return sum(_middle(index) * count for index, count in self.counts.items()) / total if total else 0.0

    @property
    def stddev_us(self) -> float:
        """The standard deviation around mean_us; 0 when empty."""
        total, mean = self.total, self.mean_us
        if not total:
            return 0.0
        return sqrt(sum((_middle(index) - mean) ** 2 * count for index, count in self.counts.items()) / total)

    def percentile(self, percent: float) -> int:
        """Return the value, in microseconds, that `percent` (0 to 100) of the values do not exceed; 0 when empty."""
        return self.percentiles((percent,))[0]

    def percentiles(self, percents: Sequence[float]) -> list[int]:
        """Return percentile(p) for each p, sorted ascending, in one pass."""
        total = self.total
        if not total:
            return [0] * len(percents)
        answers: list[int] = []
        wanted = iter(percents)
        percent = next(wanted, None)
        seen = 0
        for index in sorted(self.counts):
            seen += self.counts[index]
            while percent is not None and seen >= target(percent, total):
                answers.append(highest_us(index) if percent else lowest_us(index))
                percent = next(wanted, None)
        return answers


def target(percent: float, total: int) -> int:
    """Return how many values are `percent` of all, rounded like in HdrHistogram."""
    return max(int(min(percent, 100.0) * total / 100 + 0.5), 1)


def merged(parts: Iterable[Histogram]) -> Histogram:
    """Return the sum of histograms."""
    whole = Histogram()
    for part in parts:
        whole.merge(part)
    return whole


def _middle(index: int) -> int:
    return lowest_us(index) + (width_us(index) >> 1)
