"""The report for the terminal, made from the plain data of the results. Times are microseconds."""

from collections.abc import Iterator, Mapping
from typing import Any

COLUMNS = (
    ("p50", "p50_us"),
    ("p90", "p90_us"),
    ("p99", "p99_us"),
    ("p99.9", "p99.9_us"),
    ("p99.99", "p99.99_us"),
    ("max", "max_us"),
)
BOOKS = ("answered", "failed", "connect_failed", "aborted", "dropped", "unsent")
"""The places where a due request can end; their sum is the number of due requests."""

_NOTES = {
    ">=": "at least this: some requests had no reply, and count with the time they had waited",
    "*": "fewer than 10 requests took longer: another run may show a different figure",
}


def text(results: Mapping[str, Any]) -> str:
    """Return the report of a run, ending in a line feed."""
    return "\n".join(lines(results)) + "\n"


def lines(results: Mapping[str, Any]) -> Iterator[str]:
    """Yield the report's lines."""
    window, environment = results["window"], results["environment"]
    yield ""
    yield f"KVSS load on {environment['host']}, {loop(results)}"
    yield (
        f"{', '.join(environment['user_classes'])}: {environment['users']} users in {environment['processes']} "
        f"process{'es' if environment['processes'] > 1 else ''}; load {window['load_s']:.1f} s, warm-up "
        f"{window['warmup_s']:.1f} s, measured {window['measured_s']:.1f} s, drain {window['drain_s']:.1f} s"
    )
    yield ""
    rows = list(latency_rows(results))
    yield f"{'microseconds':<22}{'requests':>10}" + "".join(f"{name:>11}" for name, _ in COLUMNS)
    for name, figures in rows:
        cells = [cell(figures, key) for _, key in COLUMNS]
        yield f"{name:<22}{figures['count']:>10,.0f}" + "".join(f"{one:>11}" for one in cells)
    yield from (f"  {note}" for note in notes(figures for _, figures in rows))
    yield ""
    yield from rates(results)
    for name, count in failures(results):
        yield f"  {count:>8,} x {name}"
    if server := results["server"]:
        yield (
            f"server: {server.get('cpu_us_per_request', 0):.1f} us of CPU a request, "
            f"{server['rss_bytes'] / 2**20:.1f} MiB resident"
        )
    yield ""
    yield f"Verdict: {head(results['verdict']['trusted'])}"
    for finding in results["verdict"]["findings"]:
        yield f"  {'ok ' if finding['ok'] else 'NOT'} {finding['text']}"
    for requirement in results.get("requirements", ()):
        yield f"  {'ok ' if requirement['met'] else 'NOT'} required {requirement['text']}"


def head(is_trusted: bool) -> str:
    """Return a verdict in one sentence."""
    return "these figures can be trusted" if is_trusted else "do not trust every figure"


def loop(results: Mapping[str, Any]) -> str:
    """Return the kind of loop, and what its response times mean."""
    if results["loop"] == "closed":
        return "closed loop: each user waits for its reply, response time is service time"
    requests, options = results["requests"], results["options"]
    if options.get("queue") == "shared":
        queue = f"one queue, a request takes the next free of {requests['connections']} connections"
    else:
        queue = "a queue for each user"
    offered = f"{requests['offered_per_s']:,.0f}/s offered, {options['arrival']}, {queue}"
    return f"open loop, {offered}: response time counts from the intended start"


def latency_rows(results: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (name, figures) for each row of the latency table."""
    for command, outcomes in results["commands"].items():
        for outcome, kinds in outcomes.items():
            yield f"{command} {outcome}", kinds["response"]
    waited = " and waiting" if results["response"]["at_least"] else ""
    yield f"response, good{waited}", results["response"]
    if results["loop"] == "open":
        yield "service, good", results["service"]
        yield "generator lag", results["lag"]
    elif results["lag"]["count"]:
        yield "held up by generator", results["lag"]


def cell(figures: Mapping[str, Any], key: str) -> str:
    """Return one figure, with a mark if it is a lower bound or based on few requests; `-` if there is no request."""
    if not figures["count"]:
        return "-"
    return f"{'>=' if key in figures['at_least'] else ''}{figures[key]:,.0f}{'*' if key in figures['few'] else ''}"


def notes(shown: Any) -> Iterator[str]:
    """Yield the meaning of each mark that is in a table."""
    shown = list(shown)
    if any(figures["at_least"] for figures in shown):
        yield f">=  {_NOTES['>=']}"
    if any(figures["few"] for figures in shown):
        yield f"*   {_NOTES['*']}"


def rates(results: Mapping[str, Any]) -> Iterator[str]:
    """Yield the throughput, and the places where all due requests have ended."""
    requests = results["requests"]
    is_open = results["loop"] == "open"
    offered = f" of {requests['offered_per_s']:,.1f}/s offered" if is_open else ""
    outcomes = f"{requests['hits']:,} hits, {requests['misses']:,} misses"
    yield f"{requests['answered_per_s']:,.1f}/s answered{offered}; {outcomes}"
    columns = " + ".join(f"{requests[name]:,} {name.replace('_', ' ')}" for name in BOOKS)
    yield f"{requests['due']:,} {'due' if is_open else 'sent'} = {columns}"
    if is_open:
        at_begin = f"{requests['backlog_at_begin']:,} when the window began"
        yield f"backlog {requests['max_backlog']:,} at most, {at_begin}"


def failures(results: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Return the ten most frequent failures, including those to connect."""
    both = {**results["failures"], **results["connect_errors"]}
    return sorted(both.items(), key=lambda item: -item[1])[:10]
