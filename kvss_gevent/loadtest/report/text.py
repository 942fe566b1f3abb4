"""The table for the terminal, in microseconds, from the results' plain data. The HTML page is for page.py."""

from collections.abc import Iterator
from typing import Any

_COLUMNS = (
    ("p50", "p50_us"),
    ("p90", "p90_us"),
    ("p99", "p99_us"),
    ("p99.9", "p99.9_us"),
    ("p99.99", "p99.99_us"),
    ("max", "max_us"),
)


def text(results: dict[str, Any]) -> str:
    """Return the report of a run, ending in a line feed."""
    return "\n".join(lines(results)) + "\n"


def lines(results: dict[str, Any]) -> Iterator[str]:
    """Yield the report's lines."""
    requests, window, environment = results["requests"], results["window"], results["environment"]
    is_open = results["loop"] == "open"
    yield ""
    how = (
        f"open loop, {requests['offered_per_s']:,.0f}/s offered, {results['options']['arrival']}: "
        "response time counts from the intended start"
        if is_open
        else "closed loop: each user waits for its reply, response time is service time"
    )
    yield f"KVSS load on {environment['host']}, {how}"
    yield (
        f"{', '.join(environment['user_classes'])}: {environment['users']} users in {environment['processes']} "
        f"process{'es' if environment['processes'] > 1 else ''}; load {window['load_s']:.1f} s, warm-up "
        f"{window['warmup_s']:.1f} s, measured {window['measured_s']:.1f} s, drain {window['drain_s']:.1f} s"
    )
    yield ""
    yield f"{'microseconds':<22}{'requests':>10}" + "".join(f"{name:>10}" for name, _ in _COLUMNS)
    for command, outcomes in results["commands"].items():
        for outcome, kinds in outcomes.items():
            yield _row(f"{command} {outcome}", kinds["response"])
    yield _row("response, all good", results["response"])
    if is_open:
        yield _row("service, all good", results["service"])
        yield _row("generator lag", results["lag"])
    yield ""
    yield (
        f"{requests['achieved_per_s']:,.1f} requests/s; {requests['count']:,} requests, {requests['hits']:,} hits, "
        f"{requests['misses']:,} misses, {requests['errors']:,} errors, {requests['aborted']:,} aborted"
        + (f", {requests['dropped']:,} dropped, backlog {requests['max_backlog']:,} at most" if is_open else "")
    )
    for name, count in sorted(results["failures"].items(), key=lambda item: -item[1])[:10]:
        yield f"  {count:>8,} x {name}"
    if server := results["server"]:
        yield (
            f"server: {server.get('cpu_us_per_request', 0):.1f} us of CPU a request, "
            f"{server['rss_bytes'] / 2**20:.1f} MiB resident"
        )
    verdict = results["verdict"]
    yield ""
    yield "Verdict: " + ("these figures can be trusted" if verdict["trusted"] else "do not trust every figure")
    for finding in verdict["findings"]:
        yield f"  {'ok ' if finding['ok'] else 'NOT'} {finding['text']}"


def _row(name: str, figures: dict[str, float]) -> str:
    return f"{name:<22}{figures['count']:>10,.0f}" + "".join(f"{figures[key]:>10,.0f}" for _, key in _COLUMNS)
