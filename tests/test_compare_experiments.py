"""The experiments that the quick profile leaves out, each run for real in its shortest form."""

import pytest

from kvss_gevent.compare import experiments
from kvss_gevent.compare.experiments import convoy, overload
from kvss_gevent.compare.measuring import cell_runner
from kvss_gevent.compare.measuring.cores import divide
from kvss_gevent.compare.measuring.experiment_context import Profile
from kvss_gevent.compare.rows import Cell, Point

SHORT = Profile("quick", 1, 0.3, 0.05)
pytestmark = pytest.mark.server


def measured(experiment: str, model: str = "gevent") -> list[Point]:
    rows = cell_runner.measure(Cell(experiment, model, 1), SHORT, divide())
    assert not any(row.failed for row in rows), rows
    return [row.point for row in rows]


def test_a_storm_is_accepted_and_answered_whole() -> None:
    small, large = measured("storm")
    assert (small.x, large.x) == (100, 500)
    for point in (small, large):
        assert point.errors == {}
        assert point.figures["accepted_per_s"] > 50
        assert 0 < point.figures["first_reply_p50_us"] <= point.figures["first_reply_p99_us"]


def test_a_server_for_one_client_answers_one_of_a_storm_at_a_time() -> None:
    first, *_ = measured("storm", "sequential")
    assert first.errors["unanswered connections"] == 99


@pytest.mark.parametrize(("model", "served"), [("gevent", True), ("pool", False)])
def test_slow_clients_keep_others_out_of_a_pool_and_out_of_nothing_else(model: str, served: bool) -> None:
    alone, _, most = measured("slow", model)
    assert alone.errors == {}
    assert (most.errors == {}) is served
    assert (most.figures["answered_per_s"] > 300) is served


def test_shares_are_counted_alone_and_beside_floods() -> None:
    points = measured("fairness")
    assert [point.case for point in points] == ["alone", "beside 3 floods"] * 2
    assert all(0.5 < point.figures["fairness"] <= 1 for point in points)
    assert all(("cpu_us" in point.figures) is (point.case == "alone") for point in points)


@pytest.mark.parametrize(("model", "least", "most"), [("select", 50, 101), ("threads", 200, 400)])
def test_blocking_calls_run_one_after_the_other_on_a_loop(model: str, least: float, most: float) -> None:
    none, _, four = measured("blocking", model)
    assert none.figures["slept_per_s"] == 0
    assert least < four.figures["slept_per_s"] <= most


def test_a_deep_pipeline_costs_less_for_each_request() -> None:
    single, *_, deep = measured("depth")
    assert deep.figures["cpu_us"] < single.figures["cpu_us"] / 2


def test_larger_values_move_more_bytes_and_fewer_requests() -> None:
    small, _, large = measured("value")
    assert large.figures["mib_per_s"] > small.figures["mib_per_s"]
    assert large.figures["rate_per_s"] < small.figures["rate_per_s"]


def test_a_burning_thread_makes_others_wait_for_the_switch_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convoy, "INTERVALS_MS", (20.0,))
    monkeypatch.setattr(convoy, "SECONDS", 0.8)
    alone, one, _ = measured("convoy", "threads")
    assert one.case == "switch interval 20 ms"
    assert one.figures["p50_us"] > 15_000
    assert alone.figures["p50_us"] < one.figures["p50_us"] / 2


def test_an_overload_is_followed_by_the_time_its_queue_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overload, "STEP_S", 0.6)
    points = measured("overload")
    assert points[-1].case == "recovery"
    assert 0 < points[-1].figures["recover_s"] < 5
    assert 500 < points[-1].figures["able_per_s"] <= 2000, "each request computes for half a millisecond"
    assert max(point.figures["p99_us"] for point in points[:-1]) > 100_000
    assert experiments.number_of("overload") == 14
