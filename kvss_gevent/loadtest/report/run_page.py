"""The HTML page of a run, with tables and SVG plots in one file that opens offline."""

from collections.abc import Mapping
from html import escape
from typing import Any

from kvss_gevent.loadtest.report import text
from kvss_gevent.loadtest.report.plot import Curve, curves, series
from kvss_gevent.pages import shell, tables

_CURVES = "Each step to the right is one nine more: one request in 10, in 100, in 1,000."
_CORRECTED = (
    " A closed loop sends nothing while it waits. The second curve adds what an open loop of the same rate would have"
    " sent meanwhile (HdrHistogram's correction for coordinated omission)."
)
_FIGURES = (("requests", "count"), *text.COLUMNS)


def render(results: Mapping[str, Any], percentiles: Mapping[str, Curve]) -> str:
    """Return the page; `percentiles` maps names to [(percent, microseconds)] curves."""
    environment, requests, window = results["environment"], results["requests"], results["window"]
    verdict = results["verdict"]
    rows = results["rows"]
    seconds = [row["second"] for row in rows]
    throughput, books, *backlog = text.rates(results)
    processes = f"{environment['processes']} process{'es' if environment['processes'] > 1 else ''}"
    lead = (
        f"{', '.join(environment['user_classes'])}, {environment['users']} users, {processes}, "
        f"{window['measured_s']:.1f} s measured, {text.loop(results)}."
    )
    findings = [(finding["ok"], finding["text"]) for finding in verdict["findings"]]
    findings += [(one["met"], f"required {one['text']}") for one in results.get("requirements", ())]
    over_time: dict[str, list[float]] = {"answered/s": [row["answered"] for row in rows]}
    if any(row["failed"] for row in rows):
        over_time["failed/s"] = [row["failed"] for row in rows]
    parts = [
        shell.heading(f"KVSS load on {environment['host']}", lead),
        f"<h2>Verdict: {text.head(verdict['trusted'])}</h2>",
        shell.checks(findings),
        "<h2>Latency in microseconds</h2>",
        latency_table(results),
        shell.bullets(text.notes(figures for _, figures in text.latency_rows(results))),
        f"<h2>Requests</h2><p>{escape(throughput)}</p><p>{escape(books)}</p>",
        *(f"<p>{escape(line)}</p>" for line in backlog),
    ]
    if found := text.failures(results):
        parts.append(tables.table(("failure", "times"), [(name, (f"{count:,}", count)) for name, count in found]))
    parts += [
        "<h2>Percentiles</h2>",
        shell.figure(curves(percentiles), _CURVES + (_CORRECTED if results["loop"] == "closed" else "")),
        "<h2>Throughput over time</h2>",
        shell.figure(series(seconds, over_time, "requests a second"), "Replies that came in each second."),
        "<h2>p99 over time, response against service time</h2>",
        shell.figure(
            series(
                seconds,
                {
                    "response p99": [row["p99_us"] / 1000 for row in rows],
                    "service p99": [row["service_p99_us"] / 1000 for row in rows],
                },
                "milliseconds",
            ),
            "Response time counts from the time at which a request was due, service time from when it was sent.",
        ),
    ]
    if requests["max_backlog"]:
        picture = series(seconds, {"backlog": [row["backlog"] for row in rows]}, "requests")
        parts += ["<h2>Backlog over time</h2>", shell.figure(picture, "Requests that were due and not yet sent.")]
    parts.append(shell.folded("Conditions", tables.table(("what", "value"), list(_conditions(results)))))
    return shell.page(f"KVSS load on {environment['host']}", "\n".join(parts), data=results)


def latency_table(results: Mapping[str, Any]) -> str:
    """Return the latencies as a table."""
    rows: list[list[tables.Cell]] = []
    for name, figures in text.latency_rows(results):
        cells: list[tables.Cell] = [name, (f"{figures['count']:,}", figures["count"])]
        cells += [(text.cell(figures, key), figures[key]) for _, key in text.COLUMNS]
        rows.append(cells)
    return tables.table(("", *(name for name, _ in _FIGURES)), rows)


def _conditions(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    parts = ("environment", "options", "window", "server")
    return [
        (name, ", ".join(map(str, value)) if isinstance(value, list) else str(value))
        for part in parts
        for name, value in results[part].items()
    ]
