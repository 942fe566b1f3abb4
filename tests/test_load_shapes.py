"""loadtest/shapes.py: load over time."""

import pytest

from kvss_gevent.loadtest.workload.shapes import parse


def test_steps_hold_each_rate_for_their_time() -> None:
    shape = parse("steps:500,1000,2000:5s")
    assert shape is not None
    assert shape.total_s == 15
    assert [shape.rate_at(t) for t in (-1, 0, 4.9, 5, 10.1, 14, 99)] == [500, 500, 500, 1000, 2000, 2000, 2000]


def test_a_spike_returns_to_its_base() -> None:
    shape = parse("spike:500,5000:10s")
    assert shape is not None
    assert [shape.rate_at(t) for t in (5, 10.5, 12.5)] == [500, 5000, 500]
    assert shape.total_s == 22


def test_a_soak_is_long_and_even() -> None:
    shape = parse("soak:300:2h")
    assert shape is not None
    assert (shape.total_s, shape.rate_at(7000)) == (7200, 300)


def test_a_ramp_goes_in_a_straight_line_and_stages_follow_each_other() -> None:
    shape = parse("ramp:0-2000:60s,soak:2000:1m,ramp:2000-500:10s")
    assert shape is not None
    assert [shape.rate_at(t) for t in (-1, 0, 30, 60, 119, 125, 999)] == [0, 0, 1000, 2000, 2000, 1250, 500]
    assert shape.total_s == 130
    assert [shape.arrivals_until(t) for t in (-5, 30, 60, 120, 130)] == [0, 15_000, 60_000, 180_000, 192_500]


@pytest.mark.parametrize("text", ["ramp:0-2000:60s", "ramp:2000-0:60s", "steps:5,1000,0,30:4s", "spike:1,9:1s"])
def test_the_time_of_an_arrival_is_the_inverse_of_the_integral(text: str) -> None:
    shape = parse(text)
    assert shape is not None
    whole = shape.arrivals_until(shape.total_s)
    for part in range(1, 100):
        assert shape.arrivals_until(shape.time_of(whole * part / 100)) == pytest.approx(whole * part / 100)


def test_a_shape_that_asks_for_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="has no requests"):
        parse("steps:0:5s")


def test_no_text_is_no_shape() -> None:
    assert parse("") is None


@pytest.mark.parametrize(
    "text",
    [
        "ramp:1:1s",
        "steps",
        "steps:1,x:5s",
        "ramp:5-:1s",
        "steps:1:5s,wave:1:2s",
        "spike:1:5s",
        "soak:1,2:5s",
        "soak:1:0s",
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="unknown shape"):
        parse(text)
