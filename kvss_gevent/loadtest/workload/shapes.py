"""The rate of an open loop over time: steps, ramps, a spike, a soak, and lists of them."""

import re
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from math import inf, sqrt

_LENGTH = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)?")
_UNIT_S = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}
_NEXT_STAGE = re.compile(r",(?=[a-z])")
_FORMS = "steps:500,1000:5s, ramp:0-2000:60s, spike:500,5000:10s, soak:500:1h, or several: ramp:0-2000:60s,soak:2000:5m"
MAX_RATE = 10_000_000.0


@dataclass(frozen=True, slots=True)
class Stage:
    """A time in which the rate changes linearly from one value to another, in requests per second."""

    length_s: float
    first: float
    last: float

    @property
    def arrivals(self) -> float:
        """How many requests are due in it."""
        return self.length_s * (self.first + self.last) / 2

    def arrivals_until(self, elapsed_s: float) -> float:
        """Return how many requests are due up to a time since it began."""
        return elapsed_s * (self.first + (self.last - self.first) * elapsed_s / self.length_s / 2)

    def time_of(self, arrivals: float) -> float:
        """Return when so many requests are due, in seconds since it began. arrivals is above 0 and within the stage."""
        growth = (self.last - self.first) / self.length_s
        # The root of first * t + growth * t**2 / 2 = arrivals, in the form that is also right if growth is 0.
        return 2 * arrivals / (self.first + sqrt(max(self.first**2 + 2 * growth * arrivals, 0.0)))


class Shape:
    """A rate over time, from second 0 of the measured window on. The first rate is used before it, the last after."""

    __slots__ = ("_arrivals", "_starts_s", "is_flat", "stages")

    def __init__(self, stages: tuple[Stage, ...]) -> None:
        self.stages = stages
        self._starts_s = [0.0, *accumulate(stage.length_s for stage in stages)]
        self._arrivals = [0.0, *accumulate(stage.arrivals for stage in stages)]
        self.is_flat = all(stage.first == stage.last == stages[0].first for stage in stages)

    @property
    def total_s(self) -> float:
        """How long the shape lasts."""
        return self._starts_s[-1]

    def rate_at(self, time_s: float) -> float:
        """Return the rate at a time."""
        if time_s < 0:
            return self.stages[0].first
        number = bisect_right(self._starts_s, time_s) - 1
        if number == len(self.stages):
            return self.stages[-1].last
        stage = self.stages[number]
        return stage.first + (stage.last - stage.first) * (time_s - self._starts_s[number]) / stage.length_s

    def arrivals_until(self, time_s: float) -> float:
        """Return the integral of the rate from second 0 to a time; negative before second 0."""
        if time_s < 0:
            return time_s * self.stages[0].first
        number = bisect_right(self._starts_s, time_s) - 1
        rest_s = time_s - self._starts_s[number]
        if number == len(self.stages):
            return self._arrivals[-1] + rest_s * self.stages[-1].last
        return self._arrivals[number] + self.stages[number].arrivals_until(rest_s)

    def time_of(self, arrivals: float) -> float:
        """Return the time up to which so many requests are due: the inverse of arrivals_until; inf if never."""
        if arrivals < 0:
            return arrivals / self.stages[0].first
        number = bisect_right(self._arrivals, arrivals) - 1
        rest = arrivals - self._arrivals[number]
        if number == len(self.stages):
            last = self.stages[-1].last
            return self.total_s + rest / last if last else inf if rest else self.total_s
        return self._starts_s[number] + (self.stages[number].time_of(rest) if rest else 0.0)


def constant(rate: float) -> Shape:
    """Return a rate that never changes."""
    return Shape((Stage(1.0, rate, rate),))


def parse(text: str) -> Shape | None:
    """Read a shape; None for an empty text.

    `steps:500,1000,2000:5s` holds each rate for 5 s. `ramp:0-2000:60s` changes the rate linearly.
    `spike:500,5000:10s` holds the first rate for 10 s, the second for a fifth of that, then the first again.
    `soak:500:1h` holds one rate. A comma joins several: `ramp:0-2000:60s,soak:2000:5m`. Raises ValueError.
    """
    if not text:
        return None
    stages = [stage for part in _NEXT_STAGE.split(text) for stage in _parse_part(part.strip())]
    if not any(stage.arrivals for stage in stages):
        raise ValueError(f"the shape {text!r} has no requests: its rate is always 0")
    return Shape(tuple(stages))


def _parse_part(text: str) -> list[Stage]:
    kind, _, rest = text.partition(":")
    rates_text, _, length_text = rest.partition(":")
    match = _LENGTH.fullmatch(length_text)
    try:
        rates = [float(part) for part in rates_text.split("-" if kind == "ramp" else ",")]
    except ValueError:
        rates = []
    length_s = float(match[1]) * _UNIT_S[match[2]] if match else 0.0
    if length_s > 0 and all(0 <= rate <= MAX_RATE for rate in rates):
        match kind, rates:
            case "steps", [_, *_]:
                return [Stage(length_s, rate, rate) for rate in rates]
            case "ramp", [first, last]:
                return [Stage(length_s, first, last)]
            case "spike", [low, high]:
                return [Stage(length_s, low, low), Stage(length_s / 5, high, high), Stage(length_s, low, low)]
            case "soak", [rate]:
                return [Stage(length_s, rate, rate)]
    raise ValueError(f"unknown shape {text!r}: write {_FORMS}")
