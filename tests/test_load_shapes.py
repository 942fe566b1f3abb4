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


def test_no_text_is_no_shape() -> None:
    assert parse("") is None


@pytest.mark.parametrize(
    "text", ["ramp:1:1s", "steps", "steps:1,x:5s", "steps:0:5s", "spike:1:5s", "soak:1,2:5s", "soak:1:0s"]
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="unknown shape"):
        parse(text)
