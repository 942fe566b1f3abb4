"""Chooses the next key: uniform, zipfian, latest, hotspot or sequential. A key is a number here."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from random import Random

KINDS = ("uniform", "zipfian", "latest", "hotspot", "sequential")

Chooser = Callable[[int], list[int]]
"""Takes a number of keys and returns that many key numbers."""


@dataclass(frozen=True, slots=True)
class KeyDistribution:
    """A kind and its parameters: theta for zipfian and latest, shares of keys and of requests for hotspot."""

    kind: str
    theta: float = 0.99
    hot_keys: float = 0.2
    hot_requests: float = 0.8


def parse(text: str) -> KeyDistribution:
    """Read `uniform`, `sequential`, `zipfian[:theta]`, `latest[:theta]` or `hotspot[:keys:requests]`.

    Raises ValueError saying what is wrong.
    """
    kind, *rest = text.strip().lower().split(":")
    if kind not in KINDS:
        raise ValueError(f"unknown key distribution {kind!r}: it is one of {', '.join(KINDS)}")
    try:
        numbers = [float(part) for part in rest]
    except ValueError:
        raise ValueError(f"{text!r}: after the name come numbers, such as zipfian:0.99") from None
    match kind, numbers:
        case ("uniform" | "sequential" | "zipfian" | "latest" | "hotspot", []):
            return KeyDistribution(kind)
        case ("zipfian" | "latest", [theta]) if 0 < theta <= 10:
            return KeyDistribution(kind, theta=theta)
        case ("hotspot", [keys, requests]) if 0 < keys < 1 and 0 < requests <= 1:
            return KeyDistribution(kind, hot_keys=keys, hot_requests=requests)
    raise ValueError(f"{text!r}: theta is over 0 and at most 10; hotspot takes two shares between 0 and 1")


def chooser(distribution: KeyDistribution, count: int, rng: Random, newest: Callable[[], int] | None = None) -> Chooser:
    """Return a function that draws key numbers in 0..count-1; for `latest`, `newest` returns the newest key."""
    if distribution.kind == "uniform":
        draw = rng.random
        return lambda size: [int(draw() * count) for _ in range(size)]
    if distribution.kind == "sequential":
        return _sequential(count, rng.randrange(count))
    if distribution.kind == "hotspot":
        return _hotspot(distribution, count, rng)
    cumulative = zipf_cumulative(count, distribution.theta)
    ranks = range(count)
    if distribution.kind == "latest":
        last = newest or (lambda: count - 1)
        return lambda size: [max(last() - rank, 0) for rank in rng.choices(ranks, cum_weights=cumulative, k=size)]
    step = scatter_step(count)
    return lambda size: [rank * step % count for rank in rng.choices(ranks, cum_weights=cumulative, k=size)]


@lru_cache(maxsize=4)
def zipf_cumulative(count: int, theta: float) -> list[float]:
    """Return the running sums of 1 / rank ** theta. This is the exact distribution; YCSB uses an approximation.

    A million keys take 0.15 s and 32 MB, once in each process.
    """
    return list(accumulate(rank**-theta for rank in range(1, count + 1)))


def scatter_step(count: int) -> int:
    """Return a stride near the golden ratio without a common factor with count: it separates hot keys."""
    step = max(int(count * 0.6180339887), 1)
    while math.gcd(step, count) != 1:
        step += 1
    return step


def _sequential(count: int, start: int) -> Chooser:
    position = start

    def draw(size: int) -> list[int]:
        nonlocal position
        keys = [(position + i) % count for i in range(size)]
        position = (position + size) % count
        return keys

    return draw


def _hotspot(distribution: KeyDistribution, count: int, rng: Random) -> Chooser:
    hot = min(max(int(count * distribution.hot_keys), 1), count)
    cold = count - hot
    draw = rng.random
    share = distribution.hot_requests

    def one() -> int:
        if not cold or draw() < share:
            return int(draw() * hot)
        return hot + int(draw() * cold)

    return lambda size: [one() for _ in range(size)]
