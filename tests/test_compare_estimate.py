"""Medians, ratios and verdicts of the laboratory, beside what is known of them."""

import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvss_gevent.compare.estimate import BAND, Estimate, Ratio, Standing, estimate, judge, paired_ratio

POSITIVE = st.lists(st.floats(0.1, 1e6), min_size=1, max_size=30)


@given(POSITIVE)
def test_the_interval_holds_the_median_and_stays_within_the_values(values: list[float]) -> None:
    one = estimate(values)
    assert one.median == statistics.median(values)
    assert min(values) <= one.low <= one.median <= one.high <= max(values)
    assert one.n == len(values)


@pytest.mark.parametrize(("n", "covers"), [(1, 0.0), (3, 0.75), (5, 0.9375), (6, 0.96875)])
def test_an_interval_says_how_probable_it_is_that_it_has_the_median(n: int, covers: float) -> None:
    assert estimate([float(value) for value in range(n)]).covers == covers


def test_an_interval_of_many_is_not_only_least_and_most() -> None:
    one = estimate([float(value) for value in range(1, 21)])
    assert (one.low, one.high) == (6, 15), "the 6th of 20 from either end, by the binomial distribution"
    assert 0.95 <= one.covers < 0.97


@pytest.mark.parametrize("n", [6, 12, 25])
def test_intervals_hold_the_true_median_as_often_as_they_say(n: int) -> None:
    pick = random.Random(n)
    held, said = 0, 0.0
    for _ in range(600):
        one = estimate([pick.expovariate(1.0) for _ in range(n)])
        held += one.low <= math.log(2) <= one.high
        said = one.covers
    assert held / 600 == pytest.approx(said, abs=0.03)


def test_intervals_of_ratios_hold_the_true_ratio_as_often_as_they_say() -> None:
    pick = random.Random(5)
    held = 0
    for _ in range(600):
        theirs = [math.exp(pick.gauss(2, 0.3)) for _ in range(6)]
        ours = [1.3 * cost * math.exp(pick.gauss(0, 0.05)) for cost in theirs]
        one = paired_ratio(ours, theirs)
        held += one.low <= 1.3 <= one.high
    assert held / 600 == pytest.approx(0.95, abs=0.025)


def test_what_meets_both_at_once_divides_out() -> None:
    machine = [1.0, 3.0, 0.5, 7.0, 2.0, 1.5]
    one = paired_ratio([2 * factor for factor in machine], machine)
    assert (one.value, one.low, one.high) == pytest.approx((2, 2, 2))


def test_a_model_against_itself_never_ranks() -> None:
    """Of a thousand comparisons of equals hardly one may come out ahead or behind."""
    pick = random.Random(6)
    ranked = 0
    for _ in range(1000):
        ours, theirs = ([8 * math.exp(pick.gauss(0, 0.04)) for _ in range(6)] for _ in range(2))
        ranked += paired_ratio(ours, theirs).verdict in (Standing.AHEAD, Standing.BEHIND)
    assert ranked <= 5


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.97, 1.03, Standing.TIED),
        (1 / BAND, BAND, Standing.TIED),
        (0.7, 0.9, Standing.AHEAD),
        (1.06, 1.2, Standing.BEHIND),
        (1.04, 1.2, Standing.OPEN),
        (BAND, 1.2, Standing.OPEN),
        (0.8, 1 / BAND, Standing.OPEN),
        (0.9, 0.96, Standing.OPEN),
        (0.5, 2.0, Standing.OPEN),
    ],
)
def test_a_verdict_is_by_the_whole_interval(low: float, high: float, verdict: Standing) -> None:
    assert Ratio(math.sqrt(low * high), low, high, 6).verdict is verdict
    assert Ratio(math.sqrt(low * high), low, high, 5).verdict is Standing.OPEN, "five generations decide nothing"


@pytest.mark.parametrize(("low", "high", "holds"), [(2, 3, True), (1, 2, False), (1, 3, None)])
def test_a_truth_holds_where_it_does_for_both_ends(low: float, high: float, holds: bool | None) -> None:
    assert judge(Estimate(2.5, low, high, 3), lambda value: value > 2 - 1e-9 if holds else value > 2) is holds
