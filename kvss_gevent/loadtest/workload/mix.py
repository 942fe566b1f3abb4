"""The requests of a user: a reproducible stream of (operation, key number). Nothing is sent here."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from itertools import accumulate
from random import Random

from kvss_gevent.loadtest.workload import keys


class Op(IntEnum):
    """The operations of a workload; the last two are YCSB's."""

    GET = 0
    PUT = 1
    DEL = 2
    RMW = 3
    INSERT = 4


Step = tuple[int, int]
"""An Op and a key number. The number of an INSERT is ignored, because its key is new."""


@dataclass(frozen=True, slots=True)
class Mix:
    """Shares of the operations, in the order of Op. Their sum may be any number."""

    shares: tuple[float, ...]

    def __str__(self) -> str:
        return ",".join(f"{op.name.lower()}={share:g}" for op, share in zip(Op, self.shares, strict=False) if share)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Value sizes in bytes: (least, greatest) ranges, each with a weight."""

    ranges: tuple[tuple[int, int], ...]
    weights: tuple[float, ...]

    @property
    def least_bytes(self) -> int:
        """The size of the smallest possible value."""
        return min(low for low, _ in self.ranges)

    @property
    def greatest_bytes(self) -> int:
        """The size of the largest possible value."""
        return max(high for _, high in self.ranges)


@dataclass(frozen=True, slots=True)
class Workload:
    """One core workload of YCSB, or the user's own choice."""

    mix: Mix
    distribution: keys.KeyDistribution


YCSB: dict[str, Workload] = {
    "a": Workload(Mix((50, 50)), keys.KeyDistribution("zipfian")),
    "b": Workload(Mix((95, 5)), keys.KeyDistribution("zipfian")),
    "c": Workload(Mix((100,)), keys.KeyDistribution("zipfian")),
    "d": Workload(Mix((95, 0, 0, 0, 5)), keys.KeyDistribution("latest")),
    "f": Workload(Mix((50, 0, 0, 50)), keys.KeyDistribution("zipfian")),
}
"""YCSB's workloads (github.com/brianfrankcooper/YCSB, workloads/). E scans key ranges: KV/1.0 has no scan."""

YCSB_VALUE_BYTES = 1000
"""10 fields of 100 bytes. KV/1.0 has no fields, so an update writes the whole record."""


def parse_mix(text: str) -> Mix:
    """Read shares as `80:15:5` (GET:PUT:DEL) or by name, `get=80,put=20`. Raises ValueError saying what is wrong."""
    names = {op.name.lower(): op for op in Op}
    shares = [0.0] * len(Op)
    try:
        if "=" in text:
            for part in text.lower().split(","):
                name, _, share = part.partition("=")
                shares[names[name.strip()]] = float(share)
        else:
            parts = [float(part) for part in text.split(":")]
            if len(parts) > 3:
                raise ValueError
            shares[: len(parts)] = parts
    except (ValueError, KeyError):
        raise ValueError(f"unknown mix {text!r}: write GET:PUT:DEL shares as 80:15:5, or get=80,put=20") from None
    if not all(0 <= share < float("inf") for share in shares) or not sum(shares):
        raise ValueError(f"the mix {text!r} is empty: at least one share must be above 0, and none negative")
    return Mix(tuple(shares))


def parse_sizes(text: str) -> Sizes:
    """Read `100`, `64-1024`, or a weighted list `100:9,1000-2000:1`. Raises ValueError saying what is wrong."""
    ranges: list[tuple[int, int]] = []
    weights: list[float] = []
    for part in text.split(","):
        span, _, weight = part.partition(":")
        low, _, high = span.partition("-")
        try:
            ranges.append((int(low), int(high or low)))
            weights.append(float(weight or 1))
        except ValueError:
            raise ValueError(f"value size {part!r}: write bytes as 100, 64-1024 or 100:9,1000:1") from None
        if not (1 <= ranges[-1][0] <= ranges[-1][1] and 0 < weights[-1] < float("inf")):
            raise ValueError(f"value size {part!r}: at least 1 byte, the smaller bound first, the weight over 0")
    return Sizes(tuple(ranges), tuple(weights))


def user_seed(seed: int, worker: int, user: int) -> str:
    """Return the seed of one user: the same in every run, and different for every worker and user."""
    return f"{seed}/{worker}/{user}"


def batches(
    workload: Workload, key_count: int, rng: Random, newest: Callable[[], int] | None = None
) -> Callable[[int], tuple[list[int], list[int]]]:
    """Return a function that draws the next `size` steps of a stream: their Ops and their key numbers.

    Many steps are drawn together, because `choices` costs 0.1 us for a step in a batch and 1 us for a single one.
    """
    draw_keys = keys.chooser(workload.distribution, key_count, rng, newest)
    used = [(int(op), share) for op, share in zip(Op, workload.mix.shares, strict=False) if share]
    operations = [op for op, _ in used]
    cumulative = list(accumulate(share for _, share in used))
    if len(operations) == 1:
        return lambda size: (operations * size, draw_keys(size))
    return lambda size: (rng.choices(operations, cum_weights=cumulative, k=size), draw_keys(size))


def size_chooser(sizes: Sizes, rng: Random) -> Callable[[], int]:
    """Return a function that draws a value size in bytes."""
    if len(sizes.ranges) == 1:
        low, high = sizes.ranges[0]
        return (lambda: low) if low == high else (lambda: rng.randint(low, high))
    cumulative = list(accumulate(sizes.weights))
    return lambda: rng.randint(*rng.choices(sizes.ranges, cum_weights=cumulative)[0])
