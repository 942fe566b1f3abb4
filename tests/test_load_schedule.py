"""loadtest/schedule.py: due times are absolute, a backlog is kept and has a bound."""

import itertools
from random import Random

import pytest

from kvss_gevent.loadtest.workload.arrivals import Schedule, constant_gaps, poisson_gaps


def constant(rate: float, bound: int = 10**9) -> Schedule:
    return Schedule(0.0, constant_gaps(lambda _: rate), bound)


def test_due_times_do_not_depend_on_when_they_are_taken() -> None:
    prompt, stalled = constant(100), constant(100)
    taken = []
    for step in range(1, 301):
        if prompt.advance(step / 100 - 0.005):
            taken.append(prompt.take())
    assert stalled.advance(2.995) == 300
    assert [stalled.take() for _ in range(300)] == pytest.approx(taken)


def test_a_constant_rate_needs_no_function() -> None:
    schedule = Schedule(0.0, 0.01, 10**9)
    assert schedule.take_due(-0.001) == 0.0
    assert [schedule.advance(2.995), schedule.take_due(2.995), schedule.take_due(2.995)] == [300, 0.0, 0.01]
    assert [schedule.take_due(2.995) for _ in range(299)][-2:] == [pytest.approx(2.99), 0.0]


def test_what_is_taken_as_it_comes_is_what_is_queued() -> None:
    schedule = Schedule(0.5, poisson_gaps(lambda _: 100, Random(5)), 10**9)
    same = Schedule(0.5, poisson_gaps(lambda _: 100, Random(5)), 10**9)
    taken = []
    for step in range(2000):
        while due := schedule.take_due(step / 100):
            taken.append(due)
    assert len(taken) == same.advance(19.99) > 1500
    assert taken == [same.take() for _ in taken]


def test_rate_times_time_requests_are_due() -> None:
    schedule = constant(1000)
    schedule.ends = 10.0
    assert schedule.advance(100.0) == pytest.approx(10_000, abs=1)
    assert not schedule.finished()
    for _ in range(10):
        schedule.take()
    assert schedule.waiting_between(0, 10) == pytest.approx(9990, abs=1)


def test_poisson_arrivals_have_the_rate_and_the_spread() -> None:
    schedule = Schedule(0.0, poisson_gaps(lambda _: 1000, Random(5)), 10**9)
    count = schedule.advance(50.0)
    assert count == pytest.approx(50_000, rel=0.02)
    times = [schedule.take() for _ in range(count)]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    mean = sum(gaps) / len(gaps)
    spread = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert spread == pytest.approx(mean, rel=0.05), "the gaps of a Poisson process spread as wide as their mean"


def test_beyond_the_bound_requests_are_dropped_and_counted() -> None:
    schedule = constant(100, bound=50)
    assert schedule.advance(9.995) == 50
    assert schedule.take_dropped(5, 10) == pytest.approx(500, abs=15)
    assert schedule.take_dropped(0, 10) == 0, "what has been told is told once"
    schedule.advance(19.995)
    assert schedule.take_dropped(0, 9.9) == 0


def test_a_day_of_drops_takes_little_memory() -> None:
    schedule = constant(1000, bound=1)
    schedule.advance(100.0)
    assert schedule.take_dropped(0, 101) == pytest.approx(100_000, abs=2)
    assert len(schedule.dropped) < 3000


def test_a_finished_schedule_says_so() -> None:
    schedule = constant(10)
    schedule.ends = 0.5
    assert schedule.advance(1.0) == 5
    for _ in range(5):
        assert not schedule.finished()
        schedule.take()
    assert schedule.finished()


def test_the_rate_may_change_with_time() -> None:
    schedule = Schedule(0.0, constant_gaps(lambda due: 10 if due < 0.95 else 100), 10**9)
    assert schedule.advance(0.95) == 10
    assert schedule.advance(1.95) == pytest.approx(10 + 96, abs=2)
