"""loadtest/workload.py: mixes, sizes and reproducible streams."""

from collections import Counter
from random import Random

import pytest

from kvss_gevent.loadtest.workload import keys
from kvss_gevent.loadtest.workload.mix import (
    YCSB,
    Mix,
    Op,
    Sizes,
    Workload,
    batches,
    parse_mix,
    parse_sizes,
    size_chooser,
    user_seed,
)


def stream(seed: str, size: int = 500) -> list[tuple[int, int]]:
    return list(
        zip(*batches(Workload(parse_mix("80:15:5"), keys.parse("zipfian")), 100, Random(seed))(size), strict=True)
    )


def test_the_same_seed_gives_the_same_stream_whatever_the_batches() -> None:
    workload = Workload(parse_mix("80:15:5"), keys.parse("uniform"))
    first, second = (batches(workload, 100, Random(user_seed(7, 0, 0))) for _ in range(2))
    assert [first(64), first(64)] == [second(64), second(64)]


def test_every_worker_and_user_has_a_stream_of_its_own() -> None:
    seeds = [user_seed(7, worker, user) for worker in range(3) for user in range(3)] + [user_seed(8, 0, 0)]
    assert len({tuple(stream(seed)) for seed in seeds}) == 10


def test_the_mix_has_its_shares() -> None:
    ops = Counter(op for op, _ in stream("x", 50_000))
    assert ops[Op.GET] / 50_000 == pytest.approx(0.80, abs=0.01)
    assert ops[Op.PUT] / 50_000 == pytest.approx(0.15, abs=0.01)
    assert ops[Op.DEL] / 50_000 == pytest.approx(0.05, abs=0.01)


def test_ycsb_is_as_ycsb_defines_it() -> None:
    shares = {name: dict(zip(Op, workload.mix.shares, strict=False)) for name, workload in YCSB.items()}
    assert shares["a"] == {Op.GET: 50, Op.PUT: 50}
    assert shares["b"] == {Op.GET: 95, Op.PUT: 5}
    assert shares["c"] == {Op.GET: 100}
    assert {op: share for op, share in shares["d"].items() if share} == {Op.GET: 95, Op.INSERT: 5}
    assert {op: share for op, share in shares["f"].items() if share} == {Op.GET: 50, Op.RMW: 50}
    kinds = {name: workload.distribution.kind for name, workload in YCSB.items()}
    assert kinds == {"a": "zipfian", "b": "zipfian", "c": "zipfian", "d": "latest", "f": "zipfian"}
    assert {workload.distribution.theta for workload in YCSB.values()} == {0.99}


def test_mixes_are_read_by_place_and_by_name() -> None:
    assert parse_mix("80:15:5") == parse_mix("get=80,put=15,del=5") == Mix((80, 15, 5, 0, 0))
    assert parse_mix("1") == Mix((1, 0, 0, 0, 0))
    assert str(parse_mix("get=80,rmw=20")) == "get=80,rmw=20"


@pytest.mark.parametrize("text", ["", "a:b", "0:0:0", "80:-1", "1:2:3:4", "gets=1", "get=nan", "inf:1"])
def test_other_mixes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="mix"):
        parse_mix(text)


def test_sizes_are_read_and_drawn() -> None:
    assert parse_sizes("100") == Sizes(((100, 100),), (1,))
    sizes = parse_sizes("100:9,1000-2000:1")
    assert (sizes.least_bytes, sizes.greatest_bytes) == (100, 2000)
    draw = size_chooser(sizes, Random(1))
    drawn = [draw() for _ in range(10_000)]
    assert sum(size == 100 for size in drawn) / 10_000 == pytest.approx(0.9, abs=0.02)
    assert all(size == 100 or 1000 <= size <= 2000 for size in drawn)
    assert {size_chooser(parse_sizes("64"), Random(1))()} == {64}
    spread = size_chooser(parse_sizes("64-66"), Random(1))
    assert {spread() for _ in range(100)} == {64, 65, 66}


@pytest.mark.parametrize("text", ["", "x", "0", "10-5", "100:0", "100:x", "-5", "100,", "100:nan"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="value size"):
        parse_sizes(text)
