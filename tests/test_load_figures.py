"""Percentiles with requests that had no reply, and requirements."""

from typing import Any

import pytest

from kvss_gevent.loadtest.engine.histogram import Histogram
from kvss_gevent.loadtest.engine.messages import Update
from kvss_gevent.loadtest.engine.recorder import ERROR, HIT, RESPONSE, Tally
from kvss_gevent.loadtest.report.collector import Collector
from kvss_gevent.loadtest.report.figures import figures
from kvss_gevent.loadtest.report.thresholds import hopeless, judge, parse


def histogram(**counts: int) -> Histogram:
    found = Histogram()
    for us, count in counts.items():
        found.record(int(us.removeprefix("us")), count)
    return found


def test_requests_without_a_reply_count_with_the_time_they_had_waited() -> None:
    found = figures(histogram(us1000=98), histogram(us2000000=2))
    assert (found["count"], found["p90_us"]) == (100, 1000)
    assert found["p99_us"] >= 2_000_000
    assert found["at_least"] == ["p99_us", "p99.9_us", "p99.99_us", "max_us"]


def test_a_lower_bound_is_told_only_where_it_matters() -> None:
    """Ten requests that had waited a moment when users were stopped change nothing but the longest times."""
    found = figures(histogram(us1000=60_000, us9000=40_000), histogram(us10=10))
    assert found["at_least"] == ["max_us"]
    assert figures(histogram(us1000=100), Histogram())["at_least"] == []
    assert set(figures(Histogram(), histogram(us10=1))["at_least"]) >= {"p50_us", "p99_us", "max_us"}


def test_a_percentile_with_fewer_than_ten_requests_beyond_it_is_marked() -> None:
    assert figures(histogram(us5=1000))["few"] == ["p99.9_us", "p99.99_us"]
    assert figures(histogram(us5=999))["few"] == ["p99_us", "p99.9_us", "p99.99_us"]


def results(**changes: Any) -> dict[str, Any]:
    requests = {
        "due": 1000,
        "answered": 990,
        "failed": 10,
        "connect_failed": 0,
        "answered_per_s": 99,
        "offered_per_s": 100,
    }
    response = {"p99_us": 4000, "max_us": 9000, "mean_us": 700.0, "at_least": changes.pop("at_least", [])}
    response["count"] = changes.get("answered", 990)
    trusted = changes.pop("trusted", True)
    return {"requests": {**requests, **changes}, "response": response, "verdict": {"trusted": trusted}}


@pytest.mark.parametrize(
    ("text", "changes", "met"),
    [
        ("p99<4ms", {}, False),
        ("p99<=4ms", {}, True),
        ("p99:4ms", {}, True),
        ("p99>4ms", {}, False),
        ("p99<5ms", {"at_least": ["p99_us"]}, False),
        ("p99>1ms", {"at_least": ["p99_us"]}, True),
        ("max<9001us", {}, True),
        ("mean<0.7ms", {}, False),
        ("errors<1%", {}, False),
        ("errors<=1%", {}, True),
        ("errors<=10", {}, True),
        ("errors<10", {"connect_failed": 5}, False),
        ("rate>=0.99", {}, True),
        ("rate>=99%", {}, True),
        ("rate>=100/s", {}, False),
        ("rate>=0.5", {"offered_per_s": 0}, False),
        ("trusted", {"trusted": False}, False),
        ("trusted", {}, True),
        ("measured", {}, True),
        ("measured", {"answered": 0, "failed": 0}, False),
        ("p99<5s", {"answered": 0, "failed": 0}, False),
        ("p99<5s", {"answered": 0, "failed": 10}, False),
    ],
)
def test_requirements_are_judged(text: str, changes: dict[str, Any], met: bool) -> None:
    [requirement] = parse(text)
    found = judge(requirement, results(**changes))
    assert found.met is met
    assert found.text.startswith(text)


def test_several_requirements_are_read() -> None:
    assert [one.text for one in parse("p99<5ms, errors<0.1%,rate>=0.99 , trusted")] == [
        "p99<5ms",
        "errors<0.1%",
        "rate>=0.99",
        "trusted",
    ]
    assert parse("") == ()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("fast", "'fast' is not a requirement"),
        ("p98<5ms", "the percentiles are p50, p90"),
        ("p99<5", "needs a unit"),
        ("p99<1.2.3ms", "is not a number"),
        ("errors<5ms", "compared with a share"),
        ("p99=5ms", "is not a requirement"),
    ],
)
def test_what_is_no_requirement_is_told(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse(text)


def so_far(**changes: Any) -> Collector:
    collector = Collector()
    tally = Tally(dropped=changes.get("dropped", 0))
    tally.histogram(RESPONSE, "GET", HIT).record(10_000, changes.get("slow", 1))
    tally.histogram(RESPONSE, "GET", ERROR).record(10, changes.get("failed", 0))
    collector.add("a", Update(0, tally, summary={"stood_still_s": changes.get("stood_s", 0.0)}))
    return collector


@pytest.mark.parametrize(
    ("text", "changes", "planned", "why"),
    [
        ("p99<5ms", {"slow": 10}, 1000, ""),
        ("p99<5ms", {"slow": 11}, 1000, "11 requests took longer already"),
        ("p99<5ms", {"slow": 11}, 0, ""),
        ("max<5ms", {"slow": 1}, 0, "1 requests took longer already"),
        ("errors<1%", {"failed": 9}, 1000, ""),
        ("errors<1%", {"failed": 10}, 1000, "10 failed already"),
        ("errors<=3", {"failed": 4}, 0, "4 failed already"),
        ("errors<1%", {"failed": 900}, 0, ""),
        ("rate>=0.99", {"dropped": 11}, 1000, "1.10% will not be answered"),
        ("trusted", {"stood_s": 0.5}, 0, "the generator stood still for 500 ms"),
        ("trusted", {"dropped": 1}, 0, "1 requests were dropped"),
        ("trusted", {}, 0, ""),
        ("p50>1s", {}, 1000, ""),
    ],
)
def test_a_requirement_that_cannot_be_met_any_more_is_told(text: str, changes: Any, planned: float, why: str) -> None:
    [requirement] = parse(text)
    assert hopeless(requirement, so_far(**changes), planned) == why
