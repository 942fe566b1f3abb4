"""loadtest/histogram.py against the hdrhistogram package: same buckets, same answers."""

import random

import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given, settings
from hypothesis import strategies as st

from kvss_gevent.loadtest.engine.histogram import (
    BUCKETS,
    HIGHEST_US,
    Histogram,
    highest_us,
    index_of,
    lowest_us,
    merged,
)

VALUES = st.integers(min_value=0, max_value=HIGHEST_US)
PERCENTS = (0, 1, 50, 90, 99, 99.9, 99.99, 100)


def reference() -> HdrHistogram:
    return HdrHistogram(1, HIGHEST_US, 3)


@settings(deadline=None)
@given(VALUES)
def test_every_value_falls_in_the_same_bucket_as_in_hdrhistogram(value_us: int) -> None:
    theirs = reference()
    index = index_of(value_us)
    assert theirs._counts_index_for(value_us) == index
    assert theirs.get_value_from_index(index) == lowest_us(index)
    assert theirs.get_highest_equivalent_value(value_us) == highest_us(index)


def test_the_array_has_the_length_of_hdrhistograms() -> None:
    assert reference().counts_len == BUCKETS
    assert index_of(HIGHEST_US) < BUCKETS


def test_figures_equal_hdrhistograms() -> None:
    rng = random.Random(7)
    theirs, ours = reference(), Histogram()
    for _ in range(20_000):
        value_us = int(10 ** rng.uniform(0, 9.5))
        theirs.record_value(value_us)
        ours.record(value_us)
    assert ours.percentiles(PERCENTS) == [theirs.get_value_at_percentile(p) for p in PERCENTS]
    assert (ours.max_us, ours.min_us) == (theirs.get_max_value(), theirs.get_min_value())
    assert ours.mean_us == pytest.approx(theirs.get_mean_value())
    assert ours.stddev_us == pytest.approx(theirs.get_stddev())


@settings(deadline=None)
@given(st.lists(VALUES), st.lists(VALUES))
def test_a_merge_is_exactly_the_whole(left: list[int], right: list[int]) -> None:
    whole = Histogram()
    parts = (Histogram(), Histogram())
    for part, values in zip(parts, (left, right), strict=True):
        part.add_values({value: values.count(value) for value in values})
        for value in values:
            whole.record(value)
    assert merged(parts).counts == whole.counts
    assert whole.total == len(left) + len(right)


def test_an_empty_histogram_answers_zero() -> None:
    empty = Histogram()
    assert empty.percentiles((50, 99)) == [0, 0]
    assert (empty.total, empty.max_us, empty.min_us, empty.mean_us, empty.stddev_us) == (0, 0, 0, 0, 0)


def test_values_outside_the_range_count_at_its_ends() -> None:
    histogram = Histogram()
    histogram.record(-5)
    histogram.record(HIGHEST_US * 10)
    assert histogram.min_us == 0
    assert histogram.max_us == highest_us(index_of(HIGHEST_US))


@pytest.mark.parametrize("count", range(1, 21))
def test_few_values_have_the_percentiles_that_hdrhistogram_gives_them(count: int) -> None:
    """With few values a rank that is rounded otherwise is another value."""
    theirs, ours = reference(), Histogram()
    for number in range(count):
        theirs.record_value(1000 * (number + 1))
        ours.record(1000 * (number + 1))
    percents = [part / 4 for part in range(401)]
    assert ours.percentiles(percents) == [theirs.get_value_at_percentile(percent) for percent in percents]


def test_what_a_closed_loop_left_out_is_added_as_hdrhistogram_does() -> None:
    theirs, ours = reference(), Histogram()
    for value_us, count in ((100, 1000), (5000, 3), (1_000_000, 1)):
        for _ in range(count):
            theirs.record_corrected_value(value_us, 200)
        ours.record(value_us, count)
    corrected = ours.corrected(200)
    assert corrected.total == pytest.approx(theirs.get_total_count(), abs=5)
    for percent in (50, 90, 99):
        assert corrected.percentile(percent) == pytest.approx(theirs.get_value_at_percentile(percent), rel=0.002)
    assert ours.total == 1004
