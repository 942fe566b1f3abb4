"""Computes rates and times from two readings of a server."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from kvss_gevent.observe.latency_buckets import BOUNDS_S, quantile
from kvss_gevent.top.metrics_client import Samples
from kvss_gevent.top.readings import ServerReading
from kvss_gevent.top.slow_reply import SlowReply

NO_ERRORS = ("200", "201", "204", "404")
"""Reply codes that are not errors."""
LEAST_S: Final = 1.5
"""The shortest time for which a metrics page gives rates: a worker reports once a second, each at another moment."""
LEAST_REPORT_S: Final = 0.1
"""Two reports of a worker that are nearer than this are one: the times of pages are not exact."""


@dataclass(frozen=True, slots=True)
class WorkerFigures:
    """The figures of one worker process."""

    number: str
    requests_per_s: float
    clients: float
    cores: float
    """Seconds of CPU time per second."""
    resident_bytes: float
    silent_s: float


@dataclass(frozen=True, slots=True)
class Figures:
    """What a screen or a line shows. A figure that the server does not give is None or empty."""

    uptime_s: int | None = None
    clients: int | None = None
    keys: int | None = None
    requests_per_s: float | None = None
    by_command: Mapping[str, float] = field(default_factory=dict)
    """Requests per second, by command."""
    errors: Mapping[str, float] = field(default_factory=dict)
    """Error replies per second, by code."""
    p50_us: float | None = None
    p99_us: float | None = None
    store_p99_us: float | None = None
    lag_p99_ms: float | None = None
    in_per_s: float | None = None
    out_per_s: float | None = None
    slow: int | None = None
    """Slow log entries since the server started."""
    workers: Sequence[WorkerFigures] = ()
    slow_log: SlowReply | None = None
    said: str = ""
    """The reply to STATS, if its form is unknown."""
    no_page: str = ""


class RateWindow:
    """The last readings of a server, from which a new one tells rates."""

    def __init__(self, first: ServerReading) -> None:
        self._readings = deque([first])

    def take(self, now: ServerReading) -> Figures:
        """Return the figures since the reading before; with a metrics page, since one at least LEAST_S ago."""
        readings = self._readings
        while len(readings) > 1 and (not now.samples or readings[1].at_s <= now.at_s - LEAST_S):
            readings.popleft()
        figures = compare(readings[0], now)
        readings.append(now)
        return figures


def compare(before: ServerReading, now: ServerReading) -> Figures:
    """Return the figures from one reading to the next. After a restart of the server a rate is 0, not negative."""
    seconds = max(now.at_s - before.at_s, 1e-3)
    found: dict[str, Any] = {
        "slow_log": now.slow,
        "no_page": now.no_page,
        "said": "" if now.stats else now.said,
    }
    if now.stats:
        found |= _of_stats(before, now, seconds)
    if now.samples:
        found |= _of_page(before, now, found.get("requests_per_s"))
    return Figures(**found)


def _of_stats(before: ServerReading, now: ServerReading, seconds: float) -> dict[str, Any]:
    stats, old = now.stats, before.stats
    assert stats
    found: dict[str, Any] = {"uptime_s": stats.uptime_s, "clients": stats.connections, "keys": stats.keys_stored}
    if not old:
        return found

    def rate(name: str) -> float | None:
        new_count, old_count = getattr(stats, name), getattr(old, name)
        return None if new_count is None or old_count is None else max(new_count - old_count, 0) / seconds

    found["requests_per_s"] = rate("commands_processed")
    rates = {name.upper(): rate(f"{name}_requests") for name in ("get", "put", "del")}
    found["by_command"] = {name: value for name, value in rates.items() if value is not None}
    return found


def _of_page(old: ServerReading, new: ServerReading, requests_per_s: float | None) -> dict[str, Any]:
    """Return the figures of two pages. requests_per_s is what STATS tells, which no worker reports late."""
    before, now = old.samples or new.samples, new.samples
    seconds = max(new.at_s - old.at_s, 1e-3)

    def more(*sample: str) -> float:
        return max(now.get(sample, 0.0) - before.get(sample, 0.0), 0.0)

    def rate_of(worker: str, name: str, age: str = "kvss_worker_silent_seconds") -> float:
        """Return what a worker did per second between its two reports, which may be older than the pages."""
        silent = (age, worker)
        passed_s = seconds - now.get(silent, 0.0) + before.get(silent, 0.0)
        return more(name, worker) / passed_s if passed_s > LEAST_REPORT_S else 0.0

    workers = [
        WorkerFigures(
            sample[1],
            rate_of(sample[1], "kvss_worker_requests_total"),
            now[sample],
            rate_of(sample[1], "kvss_worker_cpu_seconds_total"),
            now.get(("kvss_worker_resident_bytes", sample[1]), 0.0),
            now.get(("kvss_worker_silent_seconds", sample[1]), 0.0),
        )
        for sample in now
        if sample[0] == "kvss_worker_connections"
    ]
    in_per_s, out_per_s = (
        sum(rate_of(one.number, f"kvss_worker_{name}_bytes_total", "kvss_worker_bytes_age_seconds") for one in workers)
        for name in ("received", "sent")
    )
    if requests_per_s is None:
        requests_per_s = sum(worker.requests_per_s for worker in workers)
    counts = {sample: more(*sample) for sample in now if sample[0] == "kvss_requests_total"}
    scale = requests_per_s / max(sum(counts.values()), 1.0)
    by_command: dict[str, float] = {}
    errors: dict[str, float] = {}
    for (_, command, code), count in counts.items():
        by_command[command] = by_command.get(command, 0.0) + count * scale
        if code not in NO_ERRORS:
            errors[code] = errors.get(code, 0.0) + count * scale
    return {
        "uptime_s": int(now["kvss_uptime_seconds",]),
        "clients": int(now.get(("kvss_connections",), 0)),
        "requests_per_s": requests_per_s,
        "by_command": by_command,
        "errors": errors,
        "p50_us": _scaled(before, now, "kvss_handling_seconds", 0.5, 1e6),
        "p99_us": _scaled(before, now, "kvss_handling_seconds", 0.99, 1e6),
        "store_p99_us": _scaled(before, now, "kvss_store_seconds", 0.99, 1e6),
        "lag_p99_ms": _scaled(before, now, "kvss_loop_lag_seconds", 0.99, 1e3),
        "in_per_s": in_per_s,
        "out_per_s": out_per_s,
        "slow": int(now.get(("kvss_slow_total",), 0)),
        "workers": workers,
    }


def _scaled(before: Samples, now: Samples, family: str, share: float, factor: float) -> float | None:
    """Return a quantile of the values that a histogram got between two pages, over all commands; None without any."""
    by_bound = dict.fromkeys((*map(repr, BOUNDS_S), "+Inf"), 0.0)
    for sample, count in now.items():
        if sample[0] == f"{family}_bucket" and sample[-1] in by_bound:
            by_bound[sample[-1]] += count - before.get(sample, 0.0)
    counts = list(by_bound.values())
    classes = [max(count - below, 0.0) for below, count in zip([0.0, *counts], counts, strict=False)]
    found = quantile(classes, BOUNDS_S, share)
    return None if found is None else found * factor
