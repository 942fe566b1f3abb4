"""Keys that end: gone at their deadline and not before, reclaimed in bounded steps, at a bounded price."""

import tracemalloc

from hypothesis import given, settings
from hypothesis import strategies as st

from kvss_gevent.stores.expiry import ExpiringKeys


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.25

    def __call__(self) -> float:
        return self.now_s


def reclaimed(keys: ExpiringKeys, most: int = 10_000) -> list[tuple[bytes, bytes]]:
    ended: list[tuple[bytes, bytes]] = []
    keys.reclaim(most, lambda key, value: ended.append((key, value)))
    return ended


def test_a_key_is_there_until_its_deadline_and_gone_from_then_on() -> None:
    clock = Clock()
    keys = ExpiringKeys(clock)
    keys.put(b"a", b"value", 10)
    clock.now_s += 9.999
    assert keys.get(b"a") == b"value"
    assert 0 < (keys.seconds_left(b"a") or 0) <= 0.002
    clock.now_s += 0.001
    assert keys.get(b"a") is None
    assert keys.seconds_left(b"a") is None
    assert keys.pop(b"a") is None


def test_what_has_ended_is_told_once_and_what_was_taken_out_is_not() -> None:
    clock = Clock()
    keys = ExpiringKeys(clock)
    for name in (b"a", b"b", b"c"):
        keys.put(name, b"value of " + name, 5)
    assert keys.pop(b"b") == b"value of b"
    clock.now_s += 7
    assert sorted(reclaimed(keys)) == [(b"a", b"value of a"), (b"c", b"value of c")]
    assert reclaimed(keys) == []
    assert len(keys) == 0


def test_reclaiming_is_done_in_steps_of_a_given_size() -> None:
    clock = Clock()
    keys = ExpiringKeys(clock)
    for number in range(1000):
        keys.put(b"%d" % number, b"", 1 + number % 2)
    clock.now_s += 10
    steps = 0
    while keys.reclaim(100, lambda key, value: None):
        steps += 1
        assert len(keys) == 1000 - 100 * steps
    assert len(keys) == 0
    assert steps in (9, 10)


def test_a_deadline_that_moves_is_kept_and_takes_no_room_for_ever() -> None:
    clock = Clock()
    keys = ExpiringKeys(clock)
    tracemalloc.start()
    for number in range(50_000):
        keys.put(b"key", b"", 1_000_000_000 - number)  # nearer each time
    used_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used_bytes < 1_000_000
    clock.now_s += 1_000_000_000 - 50_000 + 0.5
    assert keys.get(b"key") == b""
    clock.now_s += 1
    assert keys.get(b"key") is None


def test_a_deadline_costs_at_most_40_bytes_a_key() -> None:
    names = [b"key:%08d" % number for number in range(100_000)]
    plain: dict[bytes, bytes] = {}
    value = b"x" * 64
    tracemalloc.start()
    for name in names:
        plain[name] = b"12345678"[:0] + value[:32] + value[:32]
    plain_bytes, _ = tracemalloc.get_traced_memory()
    keys = ExpiringKeys(Clock())
    for number, name in enumerate(names):
        keys.put(name, value, 60 + number % 600)
    used_bytes = tracemalloc.get_traced_memory()[0] - plain_bytes
    tracemalloc.stop()
    assert (used_bytes - plain_bytes) / len(names) < 40


@settings(max_examples=200, deadline=None)
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
    keys = ExpiringKeys(clock)
    expected: dict[bytes, tuple[float, bytes]] = {}
    for count, (step, number, amount) in enumerate(steps):
        key, value = b"%d" % number, b"%d" % count
        if step == "put":
            keys.put(key, value, amount)
            expected[key] = clock.now_s + amount, value
        elif step == "pop":
            found = keys.pop(key)
            live = expected.get(key)
            assert found == (live[1] if live and live[0] > clock.now_s else None)
            if found is not None:
                del expected[key]
        elif step == "wait":
            clock.now_s += amount / 4
        else:
            for ended, value in reclaimed(keys, amount):
                deadline_s, stored = expected.pop(ended)
                assert deadline_s <= clock.now_s
                assert stored == value
        for name in map(b"%d".__mod__, range(6)):
            live = expected.get(name)
            assert keys.get(name) == (live[1] if live and live[0] > clock.now_s else None)
    clock.now_s += 100
    while keys.reclaim(7, lambda key, value: None):
        pass
    assert len(keys) == 0
