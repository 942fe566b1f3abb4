"""The self-contained HTML page of a run: tables and SVG plots, no script, no address, so that it opens offline.

Numbers come from results.py's plain data; the percentile curves from the histograms.
"""

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from kvss_gevent.loadtest.report.plot import Curve, curves, series

_FIGURES = ("count", "p50_us", "p90_us", "p99_us", "p99.9_us", "p99.99_us", "max_us")

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 62em; padding: 0 1em; color: #1d2733; }
h1 { font-size: 1.5em; margin-bottom: 0; } h2 { font-size: 1.15em; margin: 1.8em 0 .4em; }
table { border-collapse: collapse; } td, th { padding: .2em .8em; text-align: right; border-bottom: 1px solid #dde3ea; }
td:first-child, th:first-child { text-align: left; } .lead { color: #526070; margin-top: .2em; }
.ok::before { content: "ok "; color: #18794e; font-weight: 600; }
.not::before { content: "NOT "; color: #b42318; font-weight: 600; }
ul { list-style: none; padding: 0; } svg { width: 100%; height: auto; } .opts td { text-align: left; }
"""


def render(results: Mapping[str, Any], percentiles: Mapping[str, Curve]) -> str:
    """Return the page; `percentiles` maps names to [(percent, microseconds)] curves."""
    environment, requests = results["environment"], results["requests"]
    is_open = results["loop"] == "open"
    how = (
        f"open loop, {requests['offered_per_s']:,.0f} requests/s offered; response time counts from the intended start"
        if is_open
        else "closed loop; each user waits for its reply, so that response time is service time"
    )
    verdict = results["verdict"]
    rows = results["rows"]
    seconds = [row["second"] for row in rows]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>KVSS load</title>",
        f"<style>{_STYLE}</style>",
        f"<h1>KVSS load on {escape(environment['host'])}</h1>",
        f"<p class=lead>{escape(', '.join(environment['user_classes']))}, {environment['users']} users, "
        f"{environment['processes']} process{'es' if environment['processes'] > 1 else ''}, "
        f"{results['window']['measured_s']:.1f} s measured; {how}.</p>",
        f"<h2>Verdict: {'these figures can be trusted' if verdict['trusted'] else 'do not trust every figure'}</h2>",
        "<ul>" + "".join(_finding(finding) for finding in verdict["findings"]) + "</ul>",
        "<h2>Latency in microseconds</h2>",
        _table(("", *(name.removesuffix("_us") for name in _FIGURES)), _latency_rows(results, is_open)),
        f"<p>{requests['achieved_per_s']:,.1f} requests/s: {requests['hits']:,} hits, {requests['misses']:,} misses, "
        f"{requests['errors']:,} errors, {requests['aborted']:,} aborted, {requests['dropped']:,} dropped.</p>",
    ]
    if results["failures"]:
        parts.append(_table(("failure", "times"), [(name, f"{n:,}") for name, n in results["failures"].items()]))
    parts += [
        "<h2>Percentiles</h2>",
        curves(percentiles),
        "<h2>Throughput over time</h2>",
        series(seconds, {"requests/s": [row["requests"] for row in rows]}, "requests/s"),
        "<h2>p99 over time, response against service time</h2>",
        series(
            seconds,
            {
                "response p99": [row["p99_us"] / 1000 for row in rows],
                "service p99": [row["service_p99_us"] / 1000 for row in rows],
            },
            "milliseconds",
        ),
        "<h2>Conditions</h2>",
        _table(("", ""), _conditions(results), "opts"),
        "</html>",
    ]
    return "\n".join(parts) + "\n"


def _finding(finding: Mapping[str, Any]) -> str:
    return f"<li class={'ok' if finding['ok'] else 'not'}>{escape(finding['text'])}</li>"


def _latency_rows(results: Mapping[str, Any], is_open: bool) -> Iterable[tuple[str, ...]]:
    for command, outcomes in results["commands"].items():
        for outcome, kinds in outcomes.items():
            yield _figures_row(f"{command} {outcome}", kinds["response"])
    yield _figures_row("response, all good", results["response"])
    if is_open:
        yield _figures_row("service, all good", results["service"])
        yield _figures_row("generator lag", results["lag"])


def _figures_row(name: str, figures: Mapping[str, float]) -> tuple[str, ...]:
    return (name, *(f"{figures[key]:,.0f}" for key in _FIGURES))


def _conditions(results: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for name, value in {
        **results["environment"],
        **results["options"],
        **results["window"],
        **results["server"],
    }.items():
        yield name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]], css: str = "") -> str:
    lines = [f'<table class="{css}"><tr>' + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    return "\n".join(lines) + "</table>"
