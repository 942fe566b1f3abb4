"""Requirements that a run must meet, such as `p99<5ms, errors<0.1%, rate>=0.99, trusted`.

--kv-require and the search's --slo have the same grammar: requirements with commas between them. Each is one of

- a latency and a limit: p50, p90, p99, p99.9, p99.99, max or mean, such as `p99<5ms` (response time, in open loop from
  the intended start; requests without a reply count with the time that they had waited, and can break a limit);
- `errors`, as a share of the due requests or as a number: `errors<0.1%`, `errors<=3`;
- `rate`, the answered requests as a share of the offered ones or for each second: `rate>=0.99`, `rate>=1000/s`;
- `trusted`: the verdict has no doubt about the figures; `measured`: at least one request has ended.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import ge, gt, le, lt
from typing import Any

from kvss_gevent.loadtest.engine.recorder import RESPONSE
from kvss_gevent.loadtest.report.collector import Collector
from kvss_gevent.loadtest.report.figures import MAX, PERCENTILES

_FORM = re.compile(r"(p[\d.]+|max|mean|errors|rate)\s*(<=|>=|<|>|:)\s*([\d.]+)\s*(us|ms|s|%|/s)?")
_COMPARE: dict[str, Callable[[float, float], bool]] = {"<": lt, "<=": le, ":": le, ">": gt, ">=": ge}
_US = {"us": 1.0, "ms": 1e3, "s": 1e6}
_WORDS = ("trusted", "measured")
_HELP = "write such as p99<5ms, errors<0.1%, rate>=0.99, trusted"


@dataclass(frozen=True, slots=True)
class Requirement:
    """One requirement: a figure, an operator, and a limit in microseconds, a share, a number, or a rate per second."""

    text: str
    name: str
    operator: str = ""
    limit: float = 0.0
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Judged:
    """Whether a requirement was met; text has the requirement and the figure."""

    met: bool
    text: str


def parse(text: str) -> tuple[Requirement, ...]:
    """Read requirements; none for an empty text. Raises ValueError; its message says what is wrong."""
    return tuple(_parse_one(part.strip()) for part in text.split(",") if part.strip())


def _parse_one(text: str) -> Requirement:
    if text in _WORDS:
        return Requirement(text, text)
    match = _FORM.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a requirement: {_HELP}")
    name, operator, number, unit = match[1], match[2], match[3], match[4] or ""
    try:
        limit = float(number)
    except ValueError:
        raise ValueError(f"{text!r}: {number!r} is not a number") from None
    if (name == "errors" and unit in ("", "%")) or (name == "rate" and unit in ("", "%", "/s")):
        return Requirement(text, name, operator, limit / 100 if unit == "%" else limit, unit)
    if name in ("errors", "rate"):
        raise ValueError(f"{text!r}: {name} is compared with a share such as 1%, or with a number; {_HELP}")
    if f"{name}_us" not in (*PERCENTILES, MAX, "mean_us"):
        known = ", ".join(key.removesuffix("_us") for key in PERCENTILES)
        raise ValueError(f"{text!r}: the percentiles are {known}; {_HELP}")
    if unit not in _US:
        raise ValueError(f"{text!r}: a latency limit needs a unit: us, ms or s")
    return Requirement(text, name, operator, limit * _US[unit], unit)


def judge(requirement: Requirement, results: Mapping[str, Any]) -> Judged:
    """Tell whether a finished run meets a requirement."""
    text, requests = requirement.text, results["requests"]
    if requirement.name == "trusted":
        return Judged(results["verdict"]["trusted"], text)
    ended = requests["answered"] + requests["failed"]
    if not ended:
        return Judged(False, f"{text}: nothing was measured")
    if requirement.name == "measured":
        return Judged(True, text)
    compare = _COMPARE[requirement.operator]
    if requirement.name == "errors":
        failed = requests["failed"] + requests["connect_failed"]
        share = failed / max(requests["due"], 1)
        is_share = requirement.unit == "%"
        shown = f"{share:.3%}" if is_share else f"{failed:,}"
        return Judged(compare(share if is_share else failed, requirement.limit), f"{text}: {shown}")
    if requirement.name == "rate":
        rate, offered = requests["answered_per_s"], requests["offered_per_s"]
        if requirement.unit == "/s":
            return Judged(compare(rate, requirement.limit), f"{text}: {rate:,.1f}/s")
        if not offered:
            return Judged(False, f"{text}: a closed loop has no offered rate; write such as rate>=1000/s")
        return Judged(compare(rate / offered, requirement.limit), f"{text}: {rate / offered:.4f}")
    key = f"{requirement.name}_us"
    figures = results[RESPONSE]
    if not figures["count"]:
        return Judged(False, f"{text}: nothing was answered")
    lower_bound = key in figures["at_least"] or (key == "mean_us" and figures["at_least"])
    met = compare(figures[key], requirement.limit) and not (lower_bound and requirement.operator not in (">", ">="))
    return Judged(met, f"{text}: {'at least ' if lower_bound else ''}{figures[key] / 1000:,.3f} ms")


def hopeless(requirement: Requirement, collector: Collector, planned: float) -> str:
    """Return why a current run can no longer meet a requirement; "" if it still can.

    planned: how many requests will be due in the whole run; 0 if this is not known, as in a closed loop.
    """
    whole = collector.whole
    if requirement.name == "trusted":
        stood_s = max((s.get("stood_still_s", 0.0) for s in collector.summaries.values()), default=0.0)
        if stood_s:
            return f"the generator stood still for {stood_s * 1000:.0f} ms"
        return f"{whole.dropped:,} requests were dropped" if whole.dropped else ""
    failed = whole.failed + whole.connect_failed
    if requirement.name == "errors" and requirement.operator in ("<", "<=", ":"):
        most = requirement.limit * planned if requirement.unit == "%" else requirement.limit
        known = bool(planned) or requirement.unit != "%"
        return f"{failed:,} failed already" if known and not _COMPARE[requirement.operator](failed, most) else ""
    if requirement.name == "rate" and not requirement.unit and planned:
        lost = (whole.dropped + failed) / planned
        return f"{lost:.2%} will not be answered" if 1 - lost < requirement.limit else ""
    percent = {**PERCENTILES, MAX: 100.0}.get(f"{requirement.name}_us")
    if percent is None or requirement.operator not in ("<", "<=", ":"):
        return ""
    if not planned and percent < 100:
        return ""
    over = sum(n for us, n in whole.together(RESPONSE).values() if us > requirement.limit)
    allowed = planned * (100 - percent) / 100
    return f"{over:,} requests took longer already" if over > allowed else ""
