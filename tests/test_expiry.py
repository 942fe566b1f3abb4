"""Keys that end: gone at their deadline and not before, reclaimed in bounded steps, at a bounded price."""

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvss_gevent.stores.expiry import NS, ExpiringKeys


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.25

    def __call__(self) -> int:
        return round(self.now_s * NS)


class Ended:
    """What an ExpiringKeys has told to have ended."""

    def __init__(self) -> None:
        self.entries = self.size_bytes = 0

    def __call__(self, entries: int, size_bytes: int) -> None:
        self.entries += entries
        self.size_bytes += size_bytes


def ignore(entries: int, size_bytes: int) -> None:
    pass


def test_a_key_is_there_until_its_deadline_and_gone_from_then_on() -> None:
    clock = Clock()
    keys = ExpiringKeys(ignore, clock)
    keys.put(b"a", b"value", 10)
    assert keys.seconds_left(b"a") == 10
    clock.now_s += 0.001
    assert keys.seconds_left(b"a") == 10
    clock.now_s += 9.998
    assert keys.get(b"a") == b"value"
    assert keys.seconds_left(b"a") == 1
    clock.now_s += 0.001
    assert keys.get(b"a") is None
    assert keys.seconds_left(b"a") is None
    assert keys.pop(b"a") is None


def test_what_has_ended_is_told_once_and_what_was_taken_out_is_not() -> None:
    clock = Clock()
    ended = Ended()
    keys = ExpiringKeys(ended, clock)
    for name in (b"a", b"b", b"c"):
        keys.put(name, b"value of " + name, 5)
    assert keys.pop(b"b") == b"value of b"
    clock.now_s += 7
    assert keys.get(b"c") is None
    assert (ended.entries, ended.size_bytes) == (1, len(b"c" + b"value of c"))
    assert not keys.reclaim(10)
    assert not keys.reclaim(10)
    assert (ended.entries, ended.size_bytes) == (2, 2 * len(b"c" + b"value of c"))
    assert keys.count == 0


def test_reclaiming_is_done_in_steps_of_about_a_given_size() -> None:
    clock = Clock()
    keys = ExpiringKeys(ignore, clock)
    for number in range(1000):
        keys.put(b"%d" % number, b"", 1 + number % 2)
    clock.now_s += 10
    before = 1000
    while keys.reclaim(100):
        assert 100 <= before - keys.count < 200
        before = keys.count
    assert keys.count == 0


def test_a_key_that_comes_and_goes_takes_no_room_for_ever() -> None:
    keys = ExpiringKeys(ignore, Clock())
    tracemalloc.start()
    for _ in range(10_000):
        keys.put(b"key", b"", 1_000_000_000)
        keys.pop(b"key")
    used_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used_bytes < 100_000


def test_a_deadline_that_moves_is_kept_and_takes_no_room_for_ever() -> None:
    clock = Clock()
    keys = ExpiringKeys(ignore, clock)
    tracemalloc.start()
    for number in range(10_000):
        keys.put(b"key", b"", 1_000_000_000 - number)  # nearer each time
    used_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used_bytes < 300_000
    clock.now_s += 1_000_000_000 - 10_000 + 0.5
    assert keys.get(b"key") == b""
    clock.now_s += 1
    assert keys.get(b"key") is None


@pytest.mark.full
def test_a_deadline_costs_at_most_40_bytes_a_key() -> None:
    names = [b"key:%08d" % number for number in range(100_000)]
    plain: dict[bytes, bytes] = {}
    value = b"x" * 64
    tracemalloc.start()
    for name in names:
        plain[name] = b"12345678"[:0] + value[:32] + value[:32]
    plain_bytes, _ = tracemalloc.get_traced_memory()
    keys = ExpiringKeys(ignore, Clock())
    for number, name in enumerate(names):
        keys.put(name, value, 60 + number % 60)
    used_bytes = tracemalloc.get_traced_memory()[0] - plain_bytes
    tracemalloc.stop()
    assert (used_bytes - plain_bytes) / len(names) < 40


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("put"), st.integers(0, 5), st.integers(1, 20)),
            st.tuples(st.just("pop"), st.integers(0, 5), st.just(0)),
            st.tuples(st.just("wait"), st.just(0), st.integers(0, 40)),
            st.tuples(st.just("reclaim"), st.just(0), st.integers(0, 4)),
        ),
        max_size=60,
    )
)
def test_it_is_a_dict_with_deadlines(steps: list[tuple[str, int, int]]) -> None:
    clock = Clock()
    ended = Ended()
    keys = ExpiringKeys(ended, clock)
    expected: dict[bytes, tuple[float, bytes]] = {}
    stored_bytes = 0
    for count, (step, number, amount) in enumerate(steps):
        key, value = b"%d" % number, b"%d" % count
        deadline_s, stored = expected.get(key, (0.0, b""))
        if deadline_s > clock.now_s and step in ("put", "pop"):
            stored_bytes -= len(key + stored)
        if step == "put":
            keys.put(key, value, amount)
            expected[key] = clock.now_s + amount, value
            stored_bytes += len(key + value)
        elif step == "pop":
            assert keys.pop(key) == (stored if deadline_s > clock.now_s else None)
            expected.pop(key, None)
        elif step == "wait":
            clock.now_s += amount / 4
        else:
            keys.reclaim(amount)
        for name in map(b"%d".__mod__, range(6)):
            deadline_s, stored = expected.get(name, (0.0, b""))
            assert keys.get(name) == (stored if deadline_s > clock.now_s else None)
        assert keys.count == sum(deadline_s > clock.now_s for deadline_s, _ in expected.values())
    clock.now_s += 100
    while keys.reclaim(7):
        pass
    assert keys.count == 0
    assert ended.size_bytes == stored_bytes


def test_a_wheel_that_is_made_anew_forgets_no_key() -> None:
    clock = Clock()
    keys = ExpiringKeys(ignore, clock)
    for seconds in (400, 300, 200, 100):  # each leaves a place behind
        for number in range(3000):
            keys.put(b"%d" % number, b"", seconds)
    while keys.reclaim(500):
        pass
    clock.now_s += 99
    assert sum(keys.get(b"%d" % number) == b"" for number in range(3000)) == 3000
    clock.now_s += 2
    while keys.reclaim(500):
        pass
    assert keys.count == 0
