"""The panel about a current or finished run: verdict, figures, plots, latencies. The page updates itself."""

from collections.abc import Iterator
from html import escape
from typing import Any, Protocol

from kvss_gevent.loadtest.engine.recorder import LAG, RESPONSE, SERVICE
from kvss_gevent.loadtest.load_options import Options
from kvss_gevent.loadtest.report import results, run_page, text
from kvss_gevent.loadtest.report.collector import Collector
from kvss_gevent.loadtest.report.figures import figures
from kvss_gevent.loadtest.report.plot import series
from kvss_gevent.loadtest.report.trust import TrustFinding, trusted
from kvss_gevent.pages import shell, tables

_STYLE = """
.cards-row { display: flex; flex-wrap: wrap; gap: .6rem; margin: .6rem 0; }
.card { background: var(--panel); border-radius: .4rem; padding: .4rem .8rem; min-width: 7rem; }
.card b { display: block; font-size: 1.3rem; font-variant-numeric: tabular-nums; }
h1 { font-size: 1.2rem; }
"""
_SCRIPT = """
setInterval(async () => {
  try {
    const answer = await fetch(location.href);
    if (!answer.ok) return;
    const renewed = new DOMParser().parseFromString(await answer.text(), "text/html");
    document.querySelector("main").replaceWith(renewed.querySelector("main"));
  } catch { /* The process has ended: keep the last figures. */ }
}, 1000);
"""


class PanelSource(Protocol):
    """The runs that are shown."""

    collector: Collector
    options: Options
    results: dict[str, Any] | None
    finishing: bool
    resets: int


def page(shown: Any) -> str:
    """Return the whole page."""
    return shell.page("KVSS latency", "\n".join(_parts(shown)), style=_STYLE, script=_SCRIPT)


def verdict(shown: PanelSource) -> tuple[str, list[TrustFinding]]:
    """Return the verdict: that of the finished run, or a provisional one during a run; empty if there is no run."""
    if shown.results is not None:
        found = shown.results["verdict"]
        return f"Verdict: {text.head(found['trusted'])}", [TrustFinding(**one) for one in found["findings"]]
    if shown.finishing:
        return "", []
    findings = results.provisional(shown.collector, shown.options.open_loop, shown.resets)
    head = text.head(trusted(findings)) if findings else "nothing measured yet"
    return f"Verdict so far: {head}; the run goes on", findings


def _parts(shown: PanelSource) -> Iterator[str]:
    head, findings = verdict(shown)
    if not head:
        yield "<h1>No run</h1><p>Start one, and its latencies, its throughput and its verdict are shown here.</p>"
        return
    collector = shown.collector
    yield f"<h1>{escape(head)}</h1>"
    yield f'<div class="cards-row">{"".join(_card(name, value) for name, value in _cards(shown))}</div>'
    yield shell.checks((one.ok, one.text) for one in findings)
    intervals = collector.intervals()
    # During a run the last second is not complete.
    whole = intervals if shown.results is not None else intervals[:-1]
    seconds = [one.second for one in whole]
    if seconds:
        yield "<h2>Throughput</h2>"
        lines: dict[str, list[float]] = {"answered/s": [one.answered for one in whole]}
        if any(one.failed for one in whole):
            lines["failed/s"] = [one.failed for one in whole]
        yield shell.figure(series(seconds, lines, "requests a second"), "Replies that came in each second.")
        yield "<h2>Response time</h2>"
        times = {
            "p50": [one.p50_us / 1000 for one in whole],
            "p99": [one.p99_us / 1000 for one in whole],
            "p99.9": [one.p99_9_us / 1000 for one in whole],
        }
        yield shell.figure(
            series(seconds, times, "milliseconds"), "Percentiles of the requests that ended in each second."
        )
    if collector.max_backlog:
        yield "<h2>Backlog</h2>"
        backlog = {"waiting": [one.backlog for one in whole]}
        yield shell.figure(series(seconds, backlog, "requests"), "Requests that were due and not yet sent.")
    yield "<h2>Latency in microseconds</h2>"
    yield run_page.latency_table(shown.results) if shown.results is not None else _table(shown)


def _cards(shown: PanelSource) -> Iterator[tuple[str, str]]:
    collector = shown.collector
    recent = collector.recent().together(RESPONSE)
    last = collector.intervals()[-2:-1]
    if shown.results is not None:
        yield "answered/s", f"{shown.results['requests']['answered_per_s']:,.0f}"
    elif last:
        yield "answered in the last second", f"{last[0].answered:,}"
    if shown.results is None:
        for name, value in zip(("p50", "p99", "p99.9"), recent.percentiles((50, 99, 99.9)), strict=True):
            yield f"{name}, last 10 s", f"{value:,} us" if recent.total else "-"
    else:
        for name in ("p50", "p99", "p99.9"):
            yield name, f"{text.cell(shown.results['response'], f'{name}_us')} us"
    if shown.options.open_loop:
        yield "backlog", f"{collector.backlog:,}"
    yield "failed", f"{collector.whole.failed + collector.whole.connect_failed:,}"


def _card(name: str, value: str) -> str:
    return f'<div class="card">{escape(name)}<b>{escape(value)}</b></div>'


def _table(shown: PanelSource) -> str:
    whole = shown.collector.whole
    named = [
        (f"{command} {outcome}", histogram)
        for (kind, command, outcome), histogram in sorted(whole.counts.items())
        if kind == RESPONSE
    ]
    named.append(("response, good", whole.together(RESPONSE)))
    if shown.options.open_loop:
        named += [("service, good", whole.together(SERVICE)), ("generator lag", whole.together(LAG))]
    rows: list[list[tables.Cell]] = []
    for name, histogram in named:
        found = figures(histogram)
        cells: list[tables.Cell] = [name, (f"{found['count']:,}", found["count"])]
        rows.append([*cells, *((text.cell(found, key), found[key]) for _, key in text.COLUMNS)])
    return tables.table(("", "requests", *(name for name, _ in text.COLUMNS)), rows)
