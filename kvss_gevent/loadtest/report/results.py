"""The figures of a run as plain data, for the JSON file, which has a version.

The name of every figure has its unit. `response` counts from the intended start, `service` from the actual send; `lag`
is the lateness of the generator. At the top level they are of all good requests (hits and misses) together; `response`
also has the requests without a reply, with the time that they had waited.
"""

import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from kvss_gevent.loadtest.engine.histogram import Histogram
from kvss_gevent.loadtest.engine.recorder import ERROR, HIT, KINDS, LAG, MISS, RESPONSE, SERIES, SERVICE
from kvss_gevent.loadtest.report.collector import Collector
from kvss_gevent.loadtest.report.figures import figures
from kvss_gevent.loadtest.report.trust import Evidence, TrustFinding, judge, trusted
from kvss_gevent.loadtest.workload.proving_values import WRONG_DATA

FORMAT = "kvss-load"
VERSION = 2

_RESET = "the statistics were reset: all figures are those since the last reset"
_LONG_SHARE = 0.05
"""If replies take this share of the window or more, Little's law is wrong because of the window's ends."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """The conditions of a run; times in seconds."""

    host: str
    open_loop: bool
    users: int
    user_classes: tuple[str, ...]
    started_at: float
    """The beginning of the measured window, in seconds since the epoch."""
    load_s: float
    warmup_s: float
    planned_s: float
    """How long the measured window was to be; inf if only the user ends the run."""
    options: Mapping[str, str]
    processes: Mapping[str, Mapping[str, float]]
    """What each process reported at its end: Run.summary() and drain_s."""
    server: Mapping[str, float]
    ended_because: str = ""
    resets: int = 0
    workers_lost: int = 0
    """The number of worker processes that did not send their last counts."""
    users_changed: bool = False

    def most(self, name: str) -> float:
        """Return the greatest figure of this name over all processes, 0 if there is none."""
        return max((figures[name] for figures in self.processes.values()), default=0.0)

    def each(self, name: str) -> dict[str, float]:
        """Return the figure of this name of every process."""
        return {process: figures[name] for process, figures in self.processes.items()}


def build(collector: Collector, conditions: Conditions) -> dict[str, Any]:
    """Return all results of a run, ready for json.dump."""
    collector.finish()
    whole = collector.whole
    if not conditions.open_loop:
        _mirror_service(collector)
    evidence = weigh(collector, conditions.processes.values(), conditions.open_loop, conditions.users_changed)
    findings = [*_about_the_run(conditions, evidence), *judge(evidence)]
    if conditions.resets:
        findings.append(TrustFinding(True, _RESET))
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
            "measured_s": round(evidence.measured_s, 3),
            "drain_s": round(conditions.most("drain_s"), 3),
            "clock_s": {process: [one["begins"], one["ends"]] for process, one in conditions.processes.items()},
        },
        "requests": {
            "due": whole.due,
            "answered": whole.requests((HIT, MISS)),
            "hits": whole.requests((HIT,)),
            "misses": whole.requests((MISS,)),
            "failed": whole.failed,
            "connect_failed": whole.connect_failed,
            "aborted": whole.aborted,
            "dropped": whole.dropped,
            "unsent": whole.unsent,
            "unaccounted": whole.unaccounted,
            "unanswered": whole.unanswered,
            "reconnects": whole.reconnects,
            "offered_per_s": round(evidence.offered_per_s, 3),
            "answered_per_s": round(evidence.answered_per_s, 3),
            "backlog_at_begin": evidence.backlog_at_begin,
            "max_backlog": collector.max_backlog,
            "connections": int(sum(conditions.each("connections").values())),
            "counted_by_process": dict(collector.counted),
        },
        "failures": dict(whole.failures),
        "connect_errors": dict(whole.connect_errors),
        RESPONSE: figures(whole.together(RESPONSE), whole.censored),
        SERVICE: figures(whole.together(SERVICE)),
        LAG: figures(whole.together(LAG)),
        "commands": _commands(collector),
        "generator": {
            "cpu_shares": conditions.each("cpu_share"),
            "wait_shares": conditions.each("wait_share"),
            "stood_still_s": conditions.each("stood_still_s"),
        },
        "server": _server(conditions, whole.requests()),
        "rows": [asdict(row) for row in collector.rows],
        "verdict": {"trusted": trusted(findings), "findings": [asdict(finding) for finding in findings]},
    }


def provisional(collector: Collector, open_loop: bool, resets: int = 0) -> list[TrustFinding]:
    """Return the verdict on a current run, from what its processes have reported so far; [] before the window."""
    summaries = [summary for summary in collector.summaries.values() if summary]
    if not any(summary["measured_s"] for summary in summaries) or not collector.whole.requests():
        return []
    evidence = weigh(collector, summaries, open_loop, goes_on=True)
    return [*judge(evidence), *([TrustFinding(True, _RESET)] if resets else [])]


def weigh(
    collector: Collector,
    summaries: Iterable[Mapping[str, float]],
    open_loop: bool,
    users_changed: bool = False,
    goes_on: bool = False,
) -> Evidence:
    """Return the evidence for the verdict.

    goes_on: during a run, requests under way count neither against the server nor against the generator. The server
    may still answer them, and the time for which they have waited was not spent in the generator.
    """
    summaries = list(summaries)
    whole = collector.whole
    added = {
        name: sum(summary[name] for summary in summaries)
        for name in ("concurrency", "owed", "under_way_s", "backlog_at_begin")
    }
    measured_s = max((summary["measured_s"] for summary in summaries), default=0.0)
    ended = whole.together(RESPONSE, (HIT, MISS, ERROR))
    mean_us, answered, requests = ended.mean_us, whole.answered, whole.requests()
    if goes_on:
        mean_us += added["under_way_s"] * 1e6 / max(requests, 1)
        answered += int(min(added["owed"], added["concurrency"] or len(summaries)))
    littles_law = (
        not users_changed
        and not whole.unanswered
        and not whole.failed
        and not whole.connect_errors
        and mean_us < measured_s * 1e6 * _LONG_SHARE
        and all(summary["deepest"] <= 1 for summary in summaries)
    )
    offered = max((summary["offered"] for summary in summaries), default=0.0)
    lag = whole.together(LAG)
    stillest = max(summaries, key=lambda summary: summary["stood_still_s"], default=None)
    return Evidence(
        open_loop=open_loop,
        requests=requests,
        measured_s=measured_s,
        offered_per_s=offered / measured_s if open_loop and measured_s else 0.0,
        answered_per_s=answered / measured_s if measured_s else 0.0,
        cpu_shares=tuple(summary["cpu_share"] for summary in summaries),
        wait_shares=tuple(summary["wait_share"] for summary in summaries),
        lag_p50_us=lag.percentile(50),
        lag_p99_us=lag.percentile(99),
        mean_response_us=mean_us,
        concurrency=int(added["concurrency"]) if littles_law else 0,
        failed=whole.failed,
        unanswered=whole.unanswered,
        dropped=whole.dropped,
        unsent=whole.unsent,
        aborted=whole.aborted,
        connect_errors=sum(whole.connect_errors.values()),
        unaccounted=0 if goes_on else whole.unaccounted,
        backlog_at_begin=int(added["backlog_at_begin"]),
        stood_still_s=stillest["stood_still_s"] if stillest else 0.0,
        stood_still_most_s=stillest["stood_still_most_s"] if stillest else 0.0,
        stood_still_waiting_s=stillest["stood_still_waiting_s"] if stillest else 0.0,
        wrong_data={name: count for name, count in whole.failures.items() if name in WRONG_DATA},
    )


def environment(conditions: Conditions) -> dict[str, Any]:
    """Return what else the figures depend on, besides the options."""
    return {
        "host": conditions.host,
        "users": conditions.users,
        "user_classes": list(conditions.user_classes),
        "processes": max(len(conditions.processes), 1),
        "started_at": datetime.fromtimestamp(conditions.started_at, UTC).isoformat(timespec="milliseconds"),
        "python": platform.python_version(),
        "gevent": version("gevent"),
        "locust": version("locust"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpus": os.cpu_count(),
    }


def _about_the_run(conditions: Conditions, evidence: Evidence) -> list[TrustFinding]:
    found = []
    if conditions.workers_lost:
        workers = conditions.workers_lost + len(conditions.processes)
        text = f"{conditions.workers_lost} of {workers} worker processes were lost: not all of the load was offered"
        found.append(TrustFinding(False, f"{text}, and their last counts are missing"))
    if conditions.ended_because:
        found.append(TrustFinding(False, conditions.ended_because))
    elif not conditions.resets and evidence.measured_s < conditions.planned_s - 0.1 < float("inf"):
        text = f"the run was cut short: {evidence.measured_s:.1f} s of {conditions.planned_s:.1f} s were measured"
        found.append(TrustFinding(False, text))
    return found


def _mirror_service(collector: Collector) -> None:
    """Copy the response times of a closed loop, which are counted once, to the service times: they are the same."""
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
