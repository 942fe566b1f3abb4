"""The experiments that the quick profile leaves out, each run for real in its shortest form."""

import pytest

from kvss_gevent.compare.experiments import backpressure, convoy, lines, overload, rate, remedies
from kvss_gevent.compare.measuring import trial_runner
from kvss_gevent.compare.measuring.experiment_context import Profile
from kvss_gevent.compare.measuring.processors import divide
from kvss_gevent.compare.plan import choose
from kvss_gevent.compare.rows import ALL, Point, Trial

SHORT = Profile("quick", 1, 2, 2, 0.3, 0.05)
pytestmark = pytest.mark.server


def measured(experiment: str, model: str = "gevent") -> list[Point]:
    rows = trial_runner.measure(Trial(experiment, model, 1), choose(SHORT), divide())
    assert not any(row.failed for row in rows), rows
    return [row.point for row in rows]


def test_a_storm_is_accepted_and_answered_whole() -> None:
    small, large = measured("storm")
    assert (small.x, large.x) == (100, 500)
    for point in (small, large):
        assert point.errors == {}
        assert point.figures["accepted_per_s"] > 50
        assert 0 < point.figures["first_reply_p50_us"] <= point.figures["first_reply_p99_us"]


@pytest.mark.full
def test_a_server_for_one_client_answers_one_of_a_storm_at_a_time() -> None:
    first, *_ = measured("storm", "sequential")
    assert first.errors["unanswered connections"] == 99


@pytest.mark.full
@pytest.mark.timing
@pytest.mark.parametrize(("model", "served"), [("gevent", True), ("pool", False)])
def test_slow_clients_keep_others_out_of_a_pool_and_out_of_nothing_else(model: str, served: bool) -> None:
    alone, _, most = measured("slow", model)
    assert alone.errors == {}
    assert (most.errors == {}) is served
    assert (most.figures["answered_per_s"] > 300) is served


@pytest.mark.full
@pytest.mark.timing
def test_shares_are_counted_alone_and_beside_floods() -> None:
    points = measured("fairness")
    assert [point.case for point in points] == ["alone", "beside 3 floods"] * 2
    assert all(0.5 < point.figures["fairness"] <= 1 for point in points)
    assert all(("cpu_us" in point.figures) is (point.case == "alone") for point in points)


@pytest.mark.full
@pytest.mark.timing
@pytest.mark.parametrize(("model", "least", "most"), [("select", 50, 101), ("threads", 200, 400)])
def test_blocking_calls_run_one_after_the_other_on_a_loop(model: str, least: float, most: float) -> None:
    none, _, four = measured("blocking", model)
    assert none.figures["slept_per_s"] == 0
    assert least < four.figures["slept_per_s"] <= most


@pytest.mark.full
@pytest.mark.timing
def test_a_deep_pipeline_costs_less_for_each_request() -> None:
    single, *_, deep = measured("depth")
    assert deep.figures["cpu_us"] < single.figures["cpu_us"] / 2


@pytest.mark.full
@pytest.mark.timing
def test_larger_values_move_more_bytes_and_fewer_requests() -> None:
    small, _, large = measured("value")
    assert large.figures["mib_per_s"] > small.figures["mib_per_s"]
    assert large.figures["rate_per_s"] < small.figures["rate_per_s"]


@pytest.mark.full
@pytest.mark.timing
def test_a_burning_thread_makes_others_wait_for_the_switch_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convoy, "INTERVALS_MS", (20.0,))
    monkeypatch.setattr(convoy, "SECONDS", 0.8)
    alone, one, _ = measured("convoy", "threads")
    assert one.case == "switch interval 20 ms"
    assert one.figures["p50_us"] > 15_000
    assert alone.figures["p50_us"] < one.figures["p50_us"] / 2


@pytest.mark.full
@pytest.mark.timing
def test_an_overload_is_followed_by_the_time_its_queue_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overload, "STEP_S", 0.6)
    points = measured("overload")
    assert points[-1].case == "recovery"
    assert 0 < points[-1].figures["recover_s"] < 5
    assert 50 < points[-1].figures["able_per_s"] <= 2000, "each request computes for half a millisecond"
    before, *_ = (point.figures["p99_us"] for point in points[:-1])
    assert max(point.figures["p99_us"] for point in points[:-1]) > 3 * before


@pytest.mark.full
@pytest.mark.timing
def test_every_model_waits_past_its_own_maximum() -> None:
    points = {point.x: point for point in measured("rate", "select")}
    assert list(points) == list(rate.SHARES)
    assert points[1.1].figures["p99_us"] > 2 * points[0.5].figures["p99_us"]
    assert points[1.1].figures["answered_share"] < points[0.5].figures["answered_share"] + 0.01


@pytest.mark.full
@pytest.mark.parametrize(("model", "old", "new"), [("select", 0, 0), ("threads", 1, 1), ("fork", 1, 1)])
def test_a_handler_that_raises_takes_along_whom_its_model_lets(model: str, old: int, new: int) -> None:
    raises, leaks, stays = measured("isolation", model)
    assert (raises.figures["old"], raises.figures["new"]) == (old, new)
    assert (stays.figures["old"], stays.figures["new"]) == ((0, 0) if model == "select" else (1, 1))
    assert (leaks.figures["kept_mib"] > 20) is (model != "fork"), "what a process leaks goes with it"


@pytest.mark.parametrize(("model", "answered"), [("gevent", 8), ("select", 1)])
def test_the_product_answers_what_is_under_way_when_it_is_told_to_stop(model: str, answered: int) -> None:
    (point,) = measured("stop", model)
    assert (point.figures["answered"] == 8) is (answered == 8)
    assert point.figures["exit_code"] == 0


def test_no_model_keeps_what_nobody_reads() -> None:
    (point,) = measured("backpressure", "protocol")
    assert point.figures["grown_mib"] < backpressure.LIMIT_MIB


def test_lines_leave_out_comments_docstrings_and_blank_lines() -> None:
    source = (
        '"""A module."""\n\nimport os  # why\n\n# a comment\ndef f(\n    x,\n):\n    """Do."""\n    return os.sep * x\n'
    )
    assert lines.count(source) == 5


@pytest.mark.full
@pytest.mark.timing
def test_a_thread_cures_a_handler_that_blocks_and_a_process_one_that_computes() -> None:
    points = {(point.x, point.case): point.figures for point in measured("remedies", "asyncio")}
    blocks, computes = remedies.WORK
    assert points[1, "blocks (SLEEP 50)"]["p99_us"] < points[0, "blocks (SLEEP 50)"]["p99_us"] / 2
    assert points[1, "an empty request"]["detour_us"] > points[0, "an empty request"]["detour_us"]
    assert {computes, blocks} == {"computes (BURN 50)", "blocks (SLEEP 50)"}


@pytest.mark.full
@pytest.mark.parametrize("name", ["cores", "hotkey"])
def test_the_other_experiments_run(name: str) -> None:
    assert measured(name, "threads")


@pytest.mark.full
def test_a_generation_of_new_and_of_primed_servers() -> None:
    rows = trial_runner.measure(Trial("priming", ALL, 1), choose(SHORT, ["gevent", "asyncio"], ["priming"]), divide())
    assert {row.point.case for row in rows} == {"new", "clients have come and gone"}
