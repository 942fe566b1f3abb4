"""Load over time for open-loop runs: steps (find the knee), spike, soak. Who follows a shape is for run.py."""

import re
from dataclasses import dataclass

_LENGTH = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)?")
_UNIT_S = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}


@dataclass(frozen=True, slots=True)
class Shape:
    """Rates in requests per second over all users, each for its time; the whole is the measured window."""

    kind: str
    rates: tuple[float, ...]
    lengths_s: tuple[float, ...]

    @property
    def total_s(self) -> float:
        """How long the shape lasts."""
        return sum(self.lengths_s)

    def rate_at(self, elapsed_s: float) -> float:
        """Return the rate at a time since the window began; before and after, the first and the last."""
        for rate, length_s in zip(self.rates, self.lengths_s, strict=True):
            elapsed_s -= length_s
            if elapsed_s < 0:
                return rate
        return self.rates[-1]


def parse(text: str) -> Shape | None:
    """Read a shape; empty is none.

    `steps:500,1000,2000:5s` holds each rate that long. `spike:500,5000:10s` holds the first rate for that long, the
    second for a fifth of it, then the first again. `soak:500:1h` holds one rate. Raises ValueError.
    """
    if not text:
        return None
    kind, _, rest = text.partition(":")
    rates_text, _, length_text = rest.partition(":")
    match = _LENGTH.fullmatch(length_text)
    try:
        rates = tuple(float(part) for part in rates_text.split(","))
    except ValueError:
        rates = ()
    length_s = float(match[1]) * _UNIT_S[match[2]] if match else 0.0
    if rates and length_s > 0 and all(0 < rate <= 10_000_000 for rate in rates):
        match kind, len(rates):
            case "steps", count:
                return Shape(kind, rates, (length_s,) * count)
            case "spike", 2:
                return Shape(kind, (rates[0], rates[1], rates[0]), (length_s, length_s / 5, length_s))
            case "soak", 1:
                return Shape(kind, rates, (length_s,))
    raise ValueError(f"unknown shape {text!r}: write steps:500,1000,2000:5s, spike:500,5000:10s or soak:500:1h")
