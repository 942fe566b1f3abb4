"""What the experiments say of numbers: known truths hold where they hold, and do not where they do not."""

import pytest
from compare_rows import rows, seen

from kvss_gevent.compare import experiments
from kvss_gevent.compare.report.summary import Seen
from kvss_gevent.compare.rows import Cell, Point, Row


def said(name: str, found: Seen) -> str:
    return " ".join(one.text for one in experiments.load(name).findings(found))


def holds(name: str, found: Seen) -> dict[str, bool]:
    return {one.key: one.holds for one in experiments.load(name).findings(found) if one.holds is not None}


def connections(model: str, rates: dict[float, float], starved: int = 0, **more: object) -> list[Row]:
    errors = {"starved connections": starved} if starved else {}
    return rows("connections", model, {x: {"rate_per_s": rate} for x, rate in rates.items()}, errors=errors, **more)


def test_connections_names_best_and_worst_and_who_leaves_clients_out() -> None:
    found = seen(
        connections("gevent", {256: 100_000}, limited=True),
        connections("trio", {256: 40_000}),
        connections("sequential", {256: 15_000}, starved=255),
        connections("pool", {256: 60_000}, starved=224),
        connections("null", {256: 120_000}),
    )
    text = said("connections", found)
    assert "gevent answered most, 100,000 requests per second, which was all that the generator could ask for" in text
    assert "trio answered least of those that served every client, 40,000, 2.5 times fewer" in text
    assert "sequential (255 clients) and pool (224 clients)" in text or "pool (224 clients)" in text
    assert "null" not in text
    assert holds("connections", found) == {"sequential serves one client": True, "pool levels at its size": True}


def test_connections_sees_a_sequential_server_that_serves_two_and_a_pool_that_serves_all() -> None:
    found = seen(connections("sequential", {256: 1}, starved=254), connections("pool", {256: 1}))
    assert set(holds("connections", found).values()) == {False}


def rate(model: str, answered: dict[float, float], p99_us: float = 500) -> list[Row]:
    return rows(
        "rate",
        model,
        {x: {"offered_per_s": x, "answered_per_s": done, "p99_us": p99_us} for x, done in answered.items()},
    )


def test_rate_finds_the_knee() -> None:
    found = seen(
        rate("gevent", {4000: 4000, 8000: 8000, 16000: 15900}),
        rate("trio", {4000: 4000, 8000: 7000}, p99_us=30_000),
        rate("sequential", {4000: 100}),
    )
    text = said("rate", found)
    assert "Up to 16,000 requests per second were answered in full by gevent; trio kept up to 4,000 only" in text
    assert "waited 500 us with gevent and 30.0 ms with trio" in text
    assert "sequential" not in text


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


def cost(**cpu_us: float) -> Seen:
    named = {name.replace("_", "-"): value for name, value in cpu_us.items()}
    return seen(*(rows("cost", name, {32: {"cpu_us": value, "generator_us": 8.0}}) for name, value in named.items()))


def test_cost_compares_with_what_was_expected() -> None:
    as_known = holds("cost", cost(gevent=8, gevent_plain=15, asyncio=13, uvloop=8))
    assert set(as_known) == {
        "gevent costs less than gevent-plain",
        "gevent costs less than asyncio",
        "gevent is near uvloop",
        "the generator is cheap enough",
    }
    assert all(as_known.values())
    otherwise = holds("cost", cost(gevent=8, gevent_plain=10, asyncio=10, uvloop=5))
    assert otherwise.pop("the generator is cheap enough")
    assert not any(otherwise.values())


def test_what_the_repeats_do_not_decide_is_no_verdict() -> None:
    close = [(7.8, 11.6), (8.0, 11.7), (8.2, 12.9)]
    found = seen(
        [Row(Cell("cost", "gevent", n), Point(32, {"cpu_us": own})) for n, (own, _) in enumerate(close)],
        [Row(Cell("cost", "asyncio", n), Point(32, {"cpu_us": other})) for n, (_, other) in enumerate(close)],
    )
    assert holds("cost", found) == {}
    assert "These repeats do not decide it" in said("cost", found)


def test_cost_gives_the_order() -> None:
    assert "The order is gevent 8.0, trio 20.0" in said("cost", cost(trio=20, gevent=8)).replace(" and ", ", ")


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
    assert "gevent and pool kept a p99 of 400 us or better" in said("slow", beside({}))


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
    assert "gevent answered 20,000 per second, fork 100, 200 times fewer" in said("storm", storm)
    assert "Some clients of pool were never answered" in said("storm", storm)
    fairness = seen(
        rows("fairness", "gevent", {29: {"fairness": 1.0}}, case="alone"),
        rows("fairness", "pool", {29: {"fairness": 0.5}}, case="alone"),
    )
    assert "from 0.50 (pool) to 1.00 (gevent)" in said("fairness", fairness)
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
    assert "With 16 B gevent was cheapest and trio dearest, 2.5 times; with 64 KiB" in said("value", value)


@pytest.mark.parametrize("name", experiments.NAMES)
def test_one_contestant_that_could_be_measured_in_part_is_enough_to_say_something_or_nothing(name: str) -> None:
    assert isinstance(said(name, seen(rows(name, "gevent", {1: {}}))), str)
