"""The figures of a finished run as plain data: the versioned JSON. Counting is for recorder.py, text for report.py.

Every figure is named with its unit. `response` is from the intended start, `service` from the actual send, `lag` is how
late the generator was; at the top they are those of all good requests (hits and misses) together.
"""

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any

from kvss_gevent.loadtest.engine.histogram import Histogram
from kvss_gevent.loadtest.engine.recorder import ERROR, HIT, KINDS, LAG, MISS, RESPONSE, SERIES, SERVICE
from kvss_gevent.loadtest.report.collector import Collector
from kvss_gevent.loadtest.report.verdict import Evidence, Finding, judge, trusted

_RESET = "the statistics were reset: all figures are those since the last reset"

FORMAT = "kvss-load"
VERSION = 1
PERCENTILES = {"p50_us": 50.0, "p90_us": 90.0, "p99_us": 99.0, "p99.9_us": 99.9, "p99.99_us": 99.99}


@dataclass(frozen=True, slots=True)
class Conditions:
    """How the run was made; times in seconds."""

    host: str
    open_loop: bool
    rate_per_s: float
    users: int
    user_classes: tuple[str, ...]
    started_at: float
    load_s: float
    warmup_s: float
    options: Mapping[str, str]
    processes: Mapping[str, Mapping[str, float]]
    """What each process said at its end: Run.summary() and drain_s."""
    server: Mapping[str, float] = field(default_factory=dict)
    ended_because: str = ""
    resets: int = 0
    workers_lost: int = 0
    """Worker processes that did not say how the run ended for them."""

    def most(self, name: str) -> float:
        """Return the greatest of the processes' figures of that name, 0 where there is none."""
        return max((figures[name] for figures in self.processes.values()), default=0.0)

    def each(self, name: str) -> dict[str, float]:
        """Return every process's figure of that name."""
        return {process: figures[name] for process, figures in self.processes.items()}


def figures(histogram: Histogram) -> dict[str, float]:
    """Return count, percentiles, min, mean and max of a histogram, in microseconds."""
    values = histogram.percentiles(tuple(PERCENTILES.values()))
    return {
        "count": histogram.total,
        "min_us": histogram.min_us,
        "mean_us": round(histogram.mean_us, 1),
        **dict(zip(PERCENTILES, values, strict=True)),
        "max_us": histogram.max_us,
    }


def build(collector: Collector, conditions: Conditions) -> dict[str, Any]:
    """Return the whole of a run's results, ready for json.dump."""
    collector.finish()
    whole = collector.whole
    if not conditions.open_loop:
        _mirror_service(collector)
    requests = whole.requests()
    measured_s = conditions.most("measured_s")
    # Due requests and not the nominal rate: the number of Poisson arrivals in a window varies.
    due = requests + whole.aborted + whole.dropped + whole.unsent
    offered_per_s = due / measured_s if conditions.open_loop and measured_s else 0.0
    # What was answered during the drain was not achieved in the window.
    late = sum(row.requests for row in collector.rows if row.second >= measured_s) if measured_s else 0
    achieved = (requests - late if conditions.open_loop else requests) / measured_s if measured_s else 0.0
    response = whole.together(RESPONSE)
    lag = whole.together(LAG)
    evidence = Evidence(
        open_loop=conditions.open_loop,
        requests=requests,
        measured_s=measured_s,
        offered_per_s=offered_per_s,
        achieved_per_s=achieved,
        cpu_shares=tuple(conditions.each("cpu_share").values()),
        wait_shares=tuple(conditions.each("wait_share").values()),
        lag_p50_us=lag.percentile(50),
        lag_p99_us=lag.percentile(99),
        mean_response_us=whole.together(RESPONSE, (HIT, MISS, ERROR)).mean_us,
        concurrency=int(sum(conditions.each("concurrency").values())),
        dropped=whole.dropped,
        unsent=whole.unsent,
        aborted=whole.aborted,
        errors=whole.requests((ERROR,)),
    )
    statements = judge(evidence)
    if conditions.ended_because:
        statements.insert(0, Finding(False, conditions.ended_because))
    if conditions.workers_lost:
        statements.insert(0, Finding(False, _lost(conditions)))
    if conditions.resets:
        statements.append(Finding(True, _RESET))
    return {
        "format": FORMAT,
        "version": VERSION,
        "loop": "open" if conditions.open_loop else "closed",
        "environment": environment(conditions),
        "options": dict(conditions.options),
        "seed": int(conditions.options.get("seed") or 1),
        "window": {
            "load_s": round(conditions.load_s, 3),
            "warmup_s": conditions.warmup_s,
            "measured_s": round(measured_s, 3),
            "drain_s": round(conditions.most("drain_s"), 3),
        },
        "requests": {
            "count": requests,
            "hits": whole.requests((HIT,)),
            "misses": whole.requests((MISS,)),
            "errors": evidence.errors,
            "aborted": whole.aborted,
            "dropped": whole.dropped,
            "unsent": whole.unsent,
            "reconnects": whole.reconnects,
            "rate_per_s": round(conditions.rate_per_s, 3),
            "offered_per_s": round(offered_per_s, 3),
            "achieved_per_s": round(achieved, 3),
            "max_backlog": collector.max_backlog,
            "counted_by_process": dict(collector.counted),
        },
        "failures": dict(whole.failures),
        RESPONSE: figures(response),
        SERVICE: figures(whole.together(SERVICE)),
        LAG: figures(lag),
        "commands": _commands(collector),
        "generator": {
            "cpu_shares": conditions.each("cpu_share"),
            "wait_shares": conditions.each("wait_share"),
        },
        "server": _server(conditions, requests),
        "rows": [asdict(row) for row in collector.rows],
        "verdict": {"trusted": trusted(statements), "findings": [asdict(statement) for statement in statements]},
    }


def _lost(conditions: Conditions) -> str:
    workers = conditions.workers_lost + len(conditions.processes)
    text = f"{conditions.workers_lost} of {workers} worker processes were lost: not all of the load was offered"
    return text + ", and their last counts are missing"


def provisional(collector: Collector, open_loop: bool, resets: int = 0) -> list[Finding]:
    """Return the verdict on a run that goes on, from what its processes have told so far; nothing before the window.

    What is under way is not held against the server or the generator: each connection may owe its replies, and the
    time for which they have been owed was not spent in the generator.
    """
    summaries = collector.summaries.values()
    measured_s = max((one["measured_s"] for one in summaries if one), default=0.0)
    whole = collector.whole
    requests = whole.requests()
    if not measured_s or not requests:
        return []
    added = {name: sum(one[name] for one in summaries if one) for name in ("concurrency", "owed", "under_way_s")}
    behind = max(added["owed"] - (added["concurrency"] or len(summaries)), 0)
    ended = whole.together(RESPONSE, (HIT, MISS, ERROR))
    lag = whole.together(LAG)
    evidence = Evidence(
        open_loop=open_loop,
        requests=requests,
        measured_s=measured_s,
        offered_per_s=(requests + whole.dropped + behind) / measured_s if open_loop else 0.0,
        achieved_per_s=requests / measured_s,
        cpu_shares=tuple(one["cpu_share"] for one in summaries if one),
        wait_shares=tuple(one["wait_share"] for one in summaries if one),
        lag_p50_us=lag.percentile(50),
        lag_p99_us=lag.percentile(99),
        mean_response_us=ended.mean_us + added["under_way_s"] * 1e6 / requests,
        concurrency=int(added["concurrency"]),
        dropped=whole.dropped,
        errors=whole.requests((ERROR,)),
    )
    return [*judge(evidence), *([Finding(True, _RESET)] if resets else [])]


def environment(conditions: Conditions) -> dict[str, Any]:
    """Return what the figures depend on besides the options."""
    return {
        "host": conditions.host,
        "users": conditions.users,
        "user_classes": list(conditions.user_classes),
        "processes": max(len(conditions.processes), 1),
        "started_at_s": round(conditions.started_at, 3),
        "python": platform.python_version(),
        "gevent": version("gevent"),
        "locust": version("locust"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpus": os.cpu_count(),
    }


def _mirror_service(collector: Collector) -> None:
    """In closed loop a request is due when it is sent: its service time is its response time, counted once."""
    counts = collector.whole.counts
    for (kind, command, outcome), histogram in list(counts.items()):
        if kind == RESPONSE:
            counts[SERVICE, command, outcome] = Histogram(histogram.counts)


def _commands(collector: Collector) -> dict[str, Any]:
    commands: dict[str, Any] = {}
    for command, outcome in SERIES:
        found = {
            kind: figures(collector.whole.counts[kind, command, outcome])
            for kind in KINDS
            if (kind, command, outcome) in collector.whole.counts
            and collector.whole.counts[kind, command, outcome].counts
        }
        if found:
            commands.setdefault(command, {})[outcome] = found
    return commands


def _server(conditions: Conditions, requests: int) -> dict[str, float]:
    server = dict(conditions.server)
    if server and requests:
        server["cpu_us_per_request"] = round(server["cpu_s"] * 1e6 / requests, 3)
    return server
