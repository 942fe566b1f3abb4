"""Medians and intervals of the laboratory, beside what is known of them."""

import random
import statistics

from hypothesis import given
from hypothesis import strategies as st

from kvss_gevent.compare.estimate import Estimate, estimate, ratio

POSITIVE = st.lists(st.floats(0.1, 1e6), min_size=1, max_size=9)


@given(POSITIVE)
def test_the_interval_holds_the_median_and_stays_within_the_values(values: list[float]) -> None:
    one = estimate(values)
    assert one.median == statistics.median(values)
    assert min(values) <= one.low <= one.median <= one.high <= max(values)
    assert one.n == len(values)


def test_intervals_of_many_samples_hold_the_true_median_about_as_often_as_they_say() -> None:
    pick = random.Random(3)
    held = 0
    for _ in range(200):
        one = estimate([pick.gauss(100, 10) for _ in range(15)])
        held += one.low <= 100 <= one.high
    assert 180 <= held <= 200


def test_more_repeats_make_it_narrower() -> None:
    pick = random.Random(4)
    few, many = (estimate([pick.gauss(100, 10) for _ in range(n)]) for n in (5, 80))
    assert many.high - many.low < few.high - few.low


def test_the_same_values_have_the_same_interval_in_any_order() -> None:
    assert estimate([3.0, 1.0, 2.0]) == estimate([1.0, 2.0, 3.0])


def test_a_ratio_of_what_was_doubled_is_two() -> None:
    values = [9.0, 10.0, 11.0]
    one = ratio([2 * value for value in values], values)
    assert one.median == 2
    assert 1.6 < one.low < 2 < one.high < 2.5


def test_overlap() -> None:
    low, middle, high = Estimate(1, 0, 2, 3), Estimate(3, 2, 4, 3), Estimate(6, 5, 7, 3)
    assert low.overlaps(middle)
    assert middle.overlaps(low)
    assert not middle.overlaps(high)
