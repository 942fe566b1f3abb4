"""Which figures of a load test may be trusted, and which not."""

from dataclasses import replace

import pytest

from kvss_gevent.loadtest.engine.standstill import StandstillWatch
from kvss_gevent.loadtest.report.trust import Evidence, judge, trusted

OPEN = Evidence(
    open_loop=True,
    requests=10_000,
    measured_s=10,
    offered_per_s=1000,
    answered_per_s=1000,
    cpu_shares=(0.3,),
    wait_shares=(0.0,),
    lag_p50_us=80,
    lag_p99_us=400,
    mean_response_us=300,
    concurrency=1,
)
CLOSED = replace(OPEN, open_loop=False, offered_per_s=0, mean_response_us=1000, concurrency=1)


def doubts(evidence: Evidence) -> str:
    return "; ".join(one.text for one in judge(evidence) if not one.ok)


@pytest.mark.parametrize("evidence", [OPEN, CLOSED])
def test_a_clean_run_can_be_trusted(evidence: Evidence) -> None:
    assert trusted(judge(evidence))
    assert doubts(evidence) == ""


@pytest.mark.parametrize(
    ("change", "doubt"),
    [
        ({"cpu_shares": (0.2, 0.97)}, "97% of a core at most"),
        ({"wait_shares": (0.3,)}, "waited for a CPU 30% of the time"),
        ({"answered_per_s": 900}, "answered 900/s of 1,000/s offered (90.0%)"),
        ({"lag_p99_us": 5000}, "late by 80 us at the median, 5,000 us at p99"),
        ({"dropped": 7}, "7 requests were dropped"),
        ({"unsent": 8}, "8 left unsent"),
        ({"failed": 500}, "5.0% of the requests failed"),
        ({"requests": 0, "answered_per_s": 0}, "nothing was measured"),
        ({"requests": 0, "answered_per_s": 0, "unanswered": 3}, "the server answered nothing: 3 requests had no reply"),
        ({"requests": 0}, "no request of the window ended"),
        ({"unanswered": 1}, "1 request had no reply when the run ended"),
        ({"wrong_data": {"stale value": 12}}, "the server returned wrong data: 12 x stale value"),
        ({"connect_errors": 3}, "the server could not be reached 3 times"),
        ({"unaccounted": -1}, "the books do not balance: -1 of the requests"),
        (
            {"stood_still_s": 0.5, "stood_still_most_s": 0.4, "stood_still_waiting_s": 0.3},
            "the generator stood still for 500 ms, 400 ms at once, of which it waited 300 ms for a CPU",
        ),
    ],
)
def test_each_doubt_is_named_with_its_figure(change: dict[str, object], doubt: str) -> None:
    assert doubt in doubts(replace(OPEN, **change))  # type: ignore[arg-type]


def test_nothing_is_said_about_the_lag_of_requests_that_all_failed() -> None:
    assert "the generator was late" in " ".join(one.text for one in judge(OPEN))
    failed = replace(OPEN, failed=OPEN.requests, lag_p50_us=0, lag_p99_us=0)
    assert "the generator was late" not in " ".join(one.text for one in judge(failed))


def test_littles_law_tells_where_the_time_went() -> None:
    found = doubts(replace(CLOSED, mean_response_us=500))
    assert "by Little's law 0.50 of 1 requests were under way on average (50%)" in found
    assert doubts(replace(CLOSED, mean_response_us=500, concurrency=0)) == "", "hand-written tasks may think"


def test_aborted_requests_are_told_and_do_not_spoil_the_rest() -> None:
    found = judge(replace(OPEN, aborted=3))
    assert trusted(found)
    assert any("3 requests were under way when their users were stopped" in one.text for one in found)


BOUNDS = [
    (OPEN, "cpu_shares", (0.899,), (0.9,)),
    (OPEN, "wait_shares", (0.1,), (0.101,)),
    (OPEN, "lag_p99_us", 1000, 1001),
    (OPEN, "answered_per_s", 990, 989.9),
    (OPEN, "failed", 100, 101),
    (CLOSED, "mean_response_us", 900, 899),
]


@pytest.mark.parametrize(("evidence", "name", "good", "bad"), BOUNDS, ids=[bound[1] for bound in BOUNDS])
def test_a_verdict_exactly_on_its_bound(evidence: Evidence, name: str, good: object, bad: object) -> None:
    assert trusted(judge(replace(evidence, **{name: good})))  # type: ignore[arg-type]
    assert not trusted(judge(replace(evidence, **{name: bad})))  # type: ignore[arg-type]


def test_a_standstill_did_not_wait_longer_than_it_lasted_in_the_window() -> None:
    watch = StandstillWatch()
    watch.greenlet.kill(block=False)
    watch.found.append((0.0, 10.0, 9.0))
    assert watch.total_s(9.0, 20.0) == (1.0, 1.0, 1.0)
