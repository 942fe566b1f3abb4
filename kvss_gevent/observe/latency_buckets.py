"""Times in classes of powers of two. The class is the number of bits of the nanoseconds, so no search is needed."""

from collections.abc import Sequence
from typing import Final

BITS: Final = 64
"""Classes that are counted: class n holds times below 2^n ns."""
FIRST_BITS: Final = 10
LAST_BITS: Final = 34
"""Classes that are shown, from 1 us to 17 s; the others are added to the nearest."""
SHOWN: Final = LAST_BITS - FIRST_BITS + 1

BOUNDS_S: Final = tuple((1 << bits) / 1e9 for bits in range(FIRST_BITS, LAST_BITS + 1))
"""The upper bound of each shown class, in seconds. Times above the last bound have no class."""


def shown_classes(counts: Sequence[float]) -> list[float]:
    """Return the counts of the SHOWN classes, and after them the number of times above the last bound."""
    return [
        sum(counts[: FIRST_BITS + 1]),
        *counts[FIRST_BITS + 1 : LAST_BITS + 1],
        sum(counts[LAST_BITS + 1 :]),
    ]


def quantile(classes: Sequence[float], bounds: Sequence[float], share: float) -> float | None:
    """Return the time that this share of the times did not exceed; None if there are no times.

    classes: how many times lie in the class of each bound, and after them the number above the last bound. Inside a
    class, times are taken as evenly spread. Above the last bound, the answer is that bound.
    """
    wanted = sum(classes) * share
    if not wanted:
        return None
    below = 0.0
    for number, bound in zip(classes, bounds, strict=False):
        if number and below + number >= wanted:
            low = bounds[bounds.index(bound) - 1] if bound != bounds[0] else 0.0
            return low + (bound - low) * (wanted - below) / number
        below += number
    return bounds[-1]
