"""loadtest/results.py, report.py, page.py and plot.py: figures from counts, and what people see of them."""

import itertools
import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import Any

import pytest

from kvss_gevent.loadtest.engine.histogram import Histogram
from kvss_gevent.loadtest.engine.messages import Update
from kvss_gevent.loadtest.engine.recorder import ERROR, HIT, LAG, RESPONSE, SERVICE, Tally
from kvss_gevent.loadtest.report import plot, run_page
from kvss_gevent.loadtest.report import text as text_report
from kvss_gevent.loadtest.report.collector import Collector
from kvss_gevent.loadtest.report.results import Conditions, build, figures, provisional

SUMMARY = {
    "cpu_share": 0.3,
    "wait_share": 0.0,
    "begins": 5.0,
    "ends": 7.0,
    "measured_s": 2.0,
    "concurrency": 1,
    "owed": 0,
    "under_way_s": 0.0,
    "offered": 200,
    "backlog_at_begin": 0,
    "stood_still_s": 0.0,
    "stood_still_most_s": 0.0,
    "stood_still_waiting_s": 0.0,
    "connections": 1,
    "deepest": 1,
}

CONDITIONS = Conditions(
    host="127.0.0.1:5050",
    open_loop=True,
    users=2,
    user_classes=("KvssMix",),
    started_at=1_700_000_000.0,
    planned_s=2.0,
    load_s=0.1,
    warmup_s=1,
    options={"arrival": "constant", "seed": "7", "mix": "80:15:5"},
    processes={
        "a": {**SUMMARY, "drain_s": 0.5},
        "b": {**SUMMARY, "measured_s": 1.9, "drain_s": 0.1},
    },
    server={"cpu_s": 0.4, "rss_bytes": 50 << 20},
)


def collected(errors: int = 0) -> Collector:
    collector = Collector()
    for second, count in ((0, 100), (1, 90), (2, 10)):
        part = Tally()
        for kind, us in ((RESPONSE, 900), (SERVICE, 300), (LAG, 40)):
            part.histogram(kind, "GET", HIT).record(us, count)
        if errors:
            part.histogram(RESPONSE, "PUT", ERROR).record(5_000_000, errors)
            part.failures["<b>torn</b>"] = errors
        part.due = count + errors
        part.shifted = -count if second == 2 else 0  # What was answered in the drain.
        collector.add("a", Update(second, part, backlog=3, users=2))
    return collector


def test_what_was_answered_in_the_drain_is_no_throughput_of_the_window() -> None:
    results = build(collected(), CONDITIONS)
    assert results["requests"]["answered"] == 200
    assert results["requests"]["answered_per_s"] == 95
    assert results["requests"]["offered_per_s"] == 100
    assert results["requests"]["due"] == 200
    assert not results["verdict"]["trusted"], "95 % of what was offered is not the load asked for"


def test_figures_are_named_with_their_unit_under_their_kind() -> None:
    results = build(collected(errors=3), CONDITIONS)
    assert results["response"]["p99_us"] == results["response"]["max_us"] == 900
    assert (results["service"]["p50_us"], results["lag"]["p50_us"]) == (300, 40)
    assert results["commands"]["PUT"]["error"]["response"]["max_us"] >= 5_000_000, "errors have times of their own"
    assert results["requests"]["failed"] == 9
    assert results["server"]["cpu_us_per_request"] == pytest.approx(0.4e6 / 209, abs=0.01)
    assert results["seed"] == 7
    assert json.loads(json.dumps(results)) == results


def test_in_closed_loop_service_time_is_response_time() -> None:
    collector = Collector()
    part = Tally()
    part.histogram(RESPONSE, "GET", HIT).record(900, 10)
    collector.add("a", Update(0, part))
    results = build(collector, replace(CONDITIONS, open_loop=False))
    assert results["loop"] == "closed"
    assert results["service"]["p99_us"] == results["response"]["p99_us"]
    assert results["lag"]["count"] == 0
    assert results["requests"]["offered_per_s"] == 0


def test_an_early_end_is_the_first_finding() -> None:
    results = build(Collector(), replace(CONDITIONS, processes={}, ended_because="the server went away"))
    assert results["verdict"]["findings"][0] == {"ok": False, "text": "the server went away"}
    assert results["requests"]["answered_per_s"] == 0
    assert "nothing was measured" in text_report.text(results)
    assert "Nothing was measured." in run_page.render(results, {})


def so_far(open_loop: bool = True, resets: int = 0, **changes: float) -> str:
    """Return the findings on a run that goes on, 2 s of two processes: 2,000 requests of 1 ms."""
    collector = Collector()
    for client in ("a", "b"):
        part = Tally()
        part.histogram(RESPONSE, "GET", HIT).record(1000, 1000)
        part.histogram(LAG, "GET", HIT).record(40, 1000)
        collector.add(client, Update(1, part, summary={**SUMMARY, "offered": 2000, **changes}))
    return "; ".join(("ok: " if one.ok else "NOT: ") + one.text for one in provisional(collector, open_loop, resets))


def test_a_run_that_goes_on_has_a_provisional_verdict() -> None:
    assert provisional(Collector(), True) == []
    found = so_far()
    assert "NOT" not in found
    assert "ok: answered 1,000/s of 1,000/s offered (100.0%)" in found
    assert "ok: the generator used 30% of a core at most" in found
    assert "NOT: the generator used 95% of a core at most" in so_far(cpu_share=0.95)
    assert "reset" in so_far(resets=1)


def test_what_is_under_way_is_not_held_against_anyone_and_a_backlog_is() -> None:
    assert "ok: answered 1,001/s of 1,001/s offered" in so_far(owed=1, offered=2002)
    assert "NOT: answered 1,001/s of 1,500/s offered" in so_far(owed=501, offered=3000)
    assert "ok: by Little's law 2.00 of 2 requests" in so_far(open_loop=False, under_way_s=1.0)
    assert "NOT: by Little's law 1.00 of 2 requests" in so_far(open_loop=False)


def test_littles_law_is_left_out_where_users_could_not_connect() -> None:
    closed = replace(CONDITIONS, open_loop=False)
    assert "by Little's law" in text_report.text(build(collected(), closed))
    collector = collected()
    collector.whole.connect_errors["cannot connect: Connection refused"] = 3
    found = text_report.text(build(collector, closed))
    assert "the server could not be reached 3 times" in found
    assert "by Little's law" not in found


def test_times_of_no_request_are_no_zeros() -> None:
    found = text_report.text(build(Collector(), CONDITIONS))
    assert [line.split()[-7:] for line in found.splitlines() if line.startswith("response, good")] == [["0", *"------"]]


def test_lost_workers_are_told_first() -> None:
    results = build(collected(), replace(CONDITIONS, workers_lost=1))
    assert not results["verdict"]["trusted"]
    assert results["verdict"]["findings"][0]["text"].startswith("1 of 3 worker processes were lost: not all of the")


def test_a_reset_is_told() -> None:
    results = build(collected(), replace(CONDITIONS, resets=1))
    assert results["verdict"]["findings"][-1] == {
        "ok": True,
        "text": "the statistics were reset: all figures are those since the last reset",
    }


def test_figures_of_nothing_are_zero() -> None:
    found = figures(Histogram())
    assert (found.pop("at_least"), found.pop("few")) == ([], [])
    assert set(found.values()) == {0}


@pytest.mark.parametrize("open_loop", [True, False])
def test_the_report_says_which_loop_it_was(open_loop: bool) -> None:
    text = text_report.text(build(collected(errors=1), replace(CONDITIONS, open_loop=open_loop)))
    assert ("open loop, 100/s offered, constant, a queue for each user" in text) == open_loop
    assert ("closed loop: each user waits" in text) != open_loop
    assert "2 users in 2 processes" in text
    assert "3 x <b>torn</b>" in text
    assert "50.0 MiB resident" in text
    assert ("generator lag" in text) == open_loop


def rendered(results: dict[str, Any]) -> str:
    return run_page.render(results, {"response": [(0.0, 10), (90.0, 500), (99.99, 2_000_000), (100.0, 2_000_000)]})


def test_the_page_needs_no_network_and_escapes_what_it_shows() -> None:
    text = rendered(build(collected(errors=2), CONDITIONS))
    assert "&lt;b&gt;torn&lt;/b&gt;" in text
    assert "<b>torn" not in text
    for word in ("http:", "https:", "src=", "@import"):
        assert word not in text.replace("http://www.w3.org/2000/svg", "")
    for start in [i for i in range(len(text)) if text.startswith("<svg", i)]:
        ET.fromstring(text[start : text.index("</svg>", start) + 6])


def lines_of(svg: str) -> list[ET.Element]:
    """Return the lines of a plot without its grid and without what leads to the labels."""
    return [one for one in ET.fromstring(svg) if one.tag.endswith("polyline") and one.attrib["stroke-width"] == "2"]


def test_percentiles_stand_on_a_log_nines_axis() -> None:
    svg = plot.curves({"response": [(0.0, 100), (90.0, 100), (99.0, 100), (99.9, 100)]})
    [line] = lines_of(svg)
    across = [float(point.partition(",")[0]) for point in line.attrib["points"].split()]
    steps = [round(right - left, 1) for left, right in itertools.pairwise(across)]
    assert len(set(steps)) == 1, "each nine is as wide as the one before"


def test_a_series_starts_at_zero_and_reaches_its_greatest_value() -> None:
    svg = plot.series([0, 1, 2], {"a": [0, 5, 10], "b": [0, 0, 0]}, "requests/s")
    lines = lines_of(svg)
    heights = [float(point.partition(",")[2]) for point in lines[0].attrib["points"].split()]
    assert heights[0] > heights[1] > heights[2]
    assert ">20,000</text>" in plot.series([0, 1], {"a": [0, 50_000]}, "requests/s")
    assert plot.series([0], {"a": [0.0]}, "ms").startswith("<svg")
    assert plot.series([0, 1], {"a": [0.01, 0.2]}, "ms").startswith("<svg")
