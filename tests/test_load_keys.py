"""loadtest/keys.py: the distributions have the shares they promise."""

import itertools
import math
from collections import Counter
from random import Random

import pytest

from kvss_gevent.loadtest.workload.keys import KeyDistribution, chooser, parse, scatter_step, zipf_cumulative


@pytest.mark.parametrize(("count", "hottest", "top"), [(1000, 0.129, 0.38), (1_000_000, 0.065, 0.66)])
def test_zipfian_099_has_the_known_check_figures(count: int, hottest: float, top: float) -> None:
    cumulative = zipf_cumulative(count, 0.99)
    assert cumulative[0] / cumulative[-1] == pytest.approx(hottest, abs=0.001)
    assert cumulative[count // 100 - 1] / cumulative[-1] == pytest.approx(top, abs=0.005)


def test_zipfian_draws_have_these_shares() -> None:
    draws = Counter(chooser(parse("zipfian:0.99"), 1000, Random(3))(100_000))
    shares = [count / 100_000 for _, count in draws.most_common()]
    assert shares[0] == pytest.approx(0.129, abs=0.005)
    assert sum(shares[:10]) == pytest.approx(0.38, abs=0.01)


@pytest.mark.parametrize("count", [1, 2, 7, 1000, 4096])
def test_scattering_is_a_permutation(count: int) -> None:
    step = scatter_step(count)
    assert math.gcd(step, count) == 1
    assert {rank * step % count for rank in range(count)} == set(range(count))


@pytest.mark.parametrize("text", ["uniform", "zipfian", "latest:0.5", "hotspot:0.1:0.9", "sequential"])
@pytest.mark.parametrize("count", [1, 2, 100])
def test_keys_stay_in_range(text: str, count: int) -> None:
    assert set(chooser(parse(text), count, Random(1))(2000)) <= set(range(count))


def test_uniform_reaches_every_key_about_equally() -> None:
    draws = Counter(chooser(parse("uniform"), 10, Random(1))(50_000))
    assert min(draws.values()) > 4500
    assert max(draws.values()) < 5500


def test_hotspot_gives_its_share_to_its_keys() -> None:
    draws = chooser(parse("hotspot:0.2:0.8"), 100, Random(1))(50_000)
    assert sum(key < 20 for key in draws) / 50_000 == pytest.approx(0.8, abs=0.01)


def test_sequential_goes_round() -> None:
    draw = chooser(parse("sequential"), 5, Random(1))
    keys = draw(3) + draw(7)
    assert [(b - a) % 5 for a, b in itertools.pairwise(keys)] == [1] * 9


def test_latest_prefers_what_is_new_as_it_grows() -> None:
    newest = 99
    draw = chooser(parse("latest"), 100, Random(1), lambda: newest)
    assert Counter(draw(5000)).most_common(1)[0][0] == 99
    newest = 150
    assert Counter(draw(5000)).most_common(1)[0][0] == 150


def test_parameters_are_read() -> None:
    assert parse("zipfian:0.8") == KeyDistribution("zipfian", theta=0.8)
    assert parse("hotspot:0.1:0.9") == KeyDistribution("hotspot", hot_keys=0.1, hot_requests=0.9)


@pytest.mark.parametrize("text", ["", "pareto", "zipfian:x", "zipfian:0", "zipfian:1:2", "hotspot:2:0.5", "uniform:3"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        parse(text)
