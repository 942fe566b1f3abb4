"""What the experiments say of numbers: known truths hold where they hold, and do not where they do not."""

import pytest
from compare_rows import rows, seen

from kvss_gevent.compare import experiments
from kvss_gevent.compare.experiments import cost
from kvss_gevent.compare.rows import Measurement, Point, Trial
from kvss_gevent.compare.summary import Seen


def said(name: str, found: Seen) -> str:
    return " ".join(one.text for one in experiments.load(name).findings(found))


def holds(name: str, found: Seen) -> dict[str, bool]:
    return {one.key: one.holds for one in experiments.load(name).findings(found) if one.holds is not None}


def connections(model: str, rates: dict[float, float], starved: int = 0, **more: object) -> list[Measurement]:
    errors = {"starved connections": starved} if starved else {}
    return rows("connections", model, {x: {"rate_per_s": rate} for x, rate in rates.items()}, errors=errors, **more)


def test_connections_ranks_nobody_whom_the_generator_kept_busy_and_names_who_leaves_clients_out() -> None:
    found = seen(
        connections("gevent", {256: 100_000}, limited=True),
        connections("trio", {256: 40_000}),
        connections("fork", {256: 30_000}),
        connections("sequential", {256: 15_000}, starved=255),
        connections("pool", {256: 60_000}, starved=224),
        connections("null", {256: 120_000}),
    )
    text = said("connections", found)
    assert "gevent (tuned) answered nearly as much as the null server can be asked for" in text
    assert "of the others that served every client: trio 40,000 and fork, on disk 30,000." in text
    assert "pool (224 clients)" in text
    assert "sequential (255 clients)" in text
    assert holds("connections", found) == {"sequential serves one client": True, "pool levels at its size": True}


def test_connections_sees_a_sequential_server_that_serves_two_and_a_pool_that_serves_all() -> None:
    found = seen(connections("sequential", {256: 1}, starved=254), connections("pool", {256: 1}))
    assert set(holds("connections", found).values()) == {False}


def rate(model: str, below_us: float, past_us: float, **point: object) -> list[Measurement]:
    figures = {0.5: {"able_per_s": 4000.0}, 0.8: {"p99_us": below_us}, 1.1: {"p99_us": past_us}}
    return rows("rate", model, figures, **point)


def test_rate_finds_the_knee() -> None:
    found = seen(rate("gevent", 2000, 300_000), rate("trio", 2000, 3000))
    assert "gevent (tuned): p99 2.0 ms at 0.8 of its maximum, 300 ms at 1.1" in said("rate", found)
    assert holds("rate", found) == {"gevent has a knee": True, "trio has a knee": False}


def test_who_did_not_serve_all_has_no_times_and_no_rank_by_them() -> None:
    """The times of the few that were answered once made a server for one client look quick."""
    found = seen(rate("gevent", 2000, 300_000), rate("sequential", 100, 100, errors={"unanswered requests": 1550}))
    assert [name for name, _ in found.ranking("p99_us", at=0.8)] == ["gevent"]
    assert found.unserved()["sequential"].startswith("at 0.5: 1,550 unanswered requests")


@pytest.mark.parametrize(("each_kib", "threads", "truth"), [(20, 501, True), (2, 501, False), (20, 1, False)])
def test_idle_sees_whether_threads_pay_for_each_connection(each_kib: float, threads: float, truth: bool) -> None:
    found = seen(
        rows("idle", "threads", {0: {}, 500: {"each_kib": each_kib, "threads": threads}}),
        rows("idle", "gevent", {0: {}, 500: {"each_kib": 6.0, "threads": 1}}),
    )
    assert holds("idle", found) == {"threads pays memory for each connection": truth}


@pytest.mark.parametrize(("gevent_ms", "threads_ms", "truths"), [(500, 20, (True, True)), (100, 400, (False, False))])
def test_burn_sees_who_is_stopped(gevent_ms: float, threads_ms: float, truths: tuple[bool, bool]) -> None:
    found = seen(
        rows("burn", "gevent", {1: {"max_us": gevent_ms * 1000}}),
        rows("burn", "threads", {1: {"max_us": threads_ms * 1000}}),
    )
    assert tuple(holds("burn", found).values()) == truths


LAST = cost.PACES[-1]


def test_a_loop_without_a_figure_leaves_the_truth_about_loops_open() -> None:
    """A model whose requests went unanswered once dropped out of the sentence, which then held for the others."""
    found = seen(
        rows("burn", "select", {1: {"max_us": 500_000}}),
        rows("burn", "gevent", {1: {"max_us": 500_000}}, errors={"unanswered requests": 40}),
    )
    assert "a burning handler stops the loop models" not in holds("burn", found)
    assert found.unserved() == {"gevent": "at 1: 40 unanswered requests"}


def costs(repeats: int = 6, wobble: float = 0.0, **cpu_us: float) -> Seen:
    """Return what six generations saw, with every other one dearer by the wobble for all but the product."""
    named = {name.replace("_again", "+again").replace("_", "-"): value for name, value in cpu_us.items()}
    return seen(
        Measurement(
            Trial("cost", name, n),
            Point(LAST.per_s, {"cpu_us": value * (1 + wobble * (n % 2) * (name != "gevent"))}, case=str(LAST)),
        )
        for name, value in named.items()
        for n in range(repeats)
    )


def test_cost_without_the_product_compares_with_the_first_model_in_memory() -> None:
    found = costs(fork=5, asyncio=10, threads=7)
    assert cost.reference_of(found) == "asyncio"
    text = "".join(one.text for one in cost.findings(found))
    assert text == f"At {LAST}: cost less than asyncio: threads 0.70 [0.70 to 0.70]."


def test_cost_says_who_is_ahead_tied_and_behind() -> None:
    found = costs(gevent=8, select=7, uvloop=8.1, trio=20, null=5)
    assert (
        f"At {LAST}: cost less than gevent (tuned): null server 0.62 [0.62 to 0.62] and select 0.88 [0.88 to 0.88]; "
        "tied with gevent (tuned): uvloop 1.01 [1.01 to 1.01]; cost more than gevent (tuned): trio 2.50 [2.50 to 2.50]."
    ) in said("cost", found)
    assert holds("cost", found) == {"trio costs more than the product": True}
    assert cost.is_settled(found)


def test_what_the_generations_do_not_decide_is_no_verdict_and_asks_for_more() -> None:
    found = costs(wobble=0.4, gevent=8, asyncio=8)
    assert "not determined beside gevent (tuned): asyncio" in said("cost", found)
    assert holds("cost", found) == {}
    assert not cost.is_settled(found)


def test_few_generations_decide_nothing() -> None:
    assert "not determined beside gevent (tuned): trio 2.50" in said("cost", costs(repeats=5, gevent=8, trio=20))


def test_the_product_beside_itself_ranks_nowhere() -> None:
    assert holds("cost", costs(gevent=8, gevent_again=8.1)) == {f"a model does not rank against itself at {LAST}": True}
    assert holds("cost", costs(gevent=8, gevent_again=9)) == {f"a model does not rank against itself at {LAST}": False}


def test_a_server_in_memory_is_not_compared_with_one_on_disk() -> None:
    assert "disk" not in said("cost", costs(gevent=8, fork=30, trio=20))


def test_stall_compares_the_loops() -> None:
    def loops(closed_us: float, open_us: float) -> Seen:
        return seen(
            rows("stall", "gevent", {99.0: {"response_us": closed_us}}, case="closed loop"),
            rows("stall", "gevent", {99.0: {"response_us": open_us}}, case="open loop"),
        )

    assert holds("stall", loops(4000, 960_000)) == {"an open loop shows the stall of gevent": True}
    assert holds("stall", loops(4000, 5000)) == {"an open loop shows the stall of gevent": False}


def test_blocking_tells_loops_from_threads() -> None:
    def slept(gevent: float, threads: float) -> Seen:
        return seen(
            rows("blocking", "gevent", {4: {"slept_per_s": gevent, "p50_us": 9e5}}),
            rows("blocking", "threads", {4: {"slept_per_s": threads, "p50_us": 500}}),
        )

    assert set(holds("blocking", slept(99, 390)).values()) == {True}
    assert set(holds("blocking", slept(390, 99)).values()) == {False}


def test_convoy_needs_the_switch_interval_to_matter() -> None:
    def waits(usual_us: float, brisk_us: float) -> Seen:
        usual, brisk = "switch interval 5 ms", "switch interval 0.05 ms"
        return seen(
            rows("convoy", "threads", {0: {"p50_us": 300}, 1: {"p50_us": usual_us}}, case=usual),
            rows("convoy", "threads", {1: {"p50_us": brisk_us}}, case=brisk),
        )

    key = "the switch interval is what threads waits for"
    assert holds("convoy", waits(5400, 550)) == {key: True}
    assert holds("convoy", waits(5400, 5300)) == {key: False}
    assert "the median wait grows from 300 us to 5.4 ms, 18 times" in said("convoy", waits(5400, 550))


def test_slow_clients_fill_a_pool() -> None:
    def beside(pool: dict[str, int]) -> Seen:
        return seen(
            rows("slow", "gevent", {0: {"p99_us": 300}, 50: {"p99_us": 400}}),
            rows("slow", "pool", {0: {"p99_us": 300}, 50: {"p99_us": 300}}, errors=pool),
        )

    assert holds("slow", beside({"unanswered requests": 100})) == {"slow clients fill sequential and pool": True}
    assert "requests to pool went unanswered" in said("slow", beside({"unanswered requests": 100}))
    assert "gevent (tuned) and pool kept a p99 of 400 us or better" in said("slow", beside({}))


@pytest.mark.parametrize(("recover_s", "truth"), [(1.75, True), (0.0, False), (9.0, False)])
def test_overload_takes_as_long_as_its_queue(recover_s: float, truth: bool) -> None:
    found = seen(rows("overload", "gevent", {0: {"recover_s": recover_s}}, case="recovery"))
    assert holds("overload", found) == {"an overload is followed by its queue": truth}


def test_the_others_name_the_first_and_the_last() -> None:
    storm = seen(
        rows("storm", "gevent", {500: {"accepted_per_s": 20_000}}),
        rows("storm", "fork", {500: {"accepted_per_s": 100}}),
        rows("storm", "pool", {500: {"accepted_per_s": 100}}, errors={"unanswered connections": 468}),
    )
    assert "gevent (tuned) answered 20,000 per second, fork, on disk 100, 200 times fewer" in said("storm", storm)
    assert "Some clients of pool were never answered" in said("storm", storm)
    fairness = seen(
        rows("fairness", "gevent", {29: {"fairness": 1.0}}, case="alone"),
        rows("fairness", "pool", {29: {"fairness": 0.5}}, case="alone"),
    )
    assert "from 0.50 (pool) to 1.00 (gevent (tuned))" in said("fairness", fairness)
    even = seen(*(rows("fairness", name, {29: {"fairness": 0.99}}, case="alone") for name in ("gevent", "pool")))
    assert "Alone, every model gave 29 connections nearly the same" in said("fairness", even)
    depth = seen(
        rows("depth", "gevent", {1: {"cpu_us": 8}, 64: {"cpu_us": 0.5}}),
        rows("depth", "trio", {1: {"cpu_us": 20}, 64: {"cpu_us": 1}}),
    )
    assert "cost trio 20 times less each" in said("depth", depth)
    value = seen(
        rows("value", "gevent", {16: {"cpu_us": 8}, 65536: {"cpu_us": 40}}),
        rows("value", "trio", {16: {"cpu_us": 20}, 65536: {"cpu_us": 60}}),
    )
    assert "With 16 B gevent (tuned) was cheapest and trio dearest, 2.5 times; with 64 KiB" in said("value", value)


@pytest.mark.parametrize("name", experiments.NAMES)
def test_one_contestant_that_could_be_measured_in_part_is_enough_to_say_something_or_nothing(name: str) -> None:
    assert isinstance(said(name, seen(rows(name, "gevent", {1: {}}))), str)
