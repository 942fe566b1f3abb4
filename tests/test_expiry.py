"""Keys that end: gone at their deadline and not before, reclaimed in bounded steps, at a bounded price."""

import tracemalloc

from hypothesis import given, settings
from hypothesis import strategies as st

from kvss_gevent.stores.expiry import NS, ExpiringKeys


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.25

    def __call__(self) -> int:
        return round(self.now_s * NS)


class Ended(list[tuple[bytes, bytes]]):
    """What an ExpiringKeys has told to have ended."""

    def __call__(self, key: bytes, value: bytes) -> None:
        self.append((key, value))


def ignore(key: bytes, value: bytes) -> None:
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
    assert ended == [(b"c", b"value of c")]
    keys.reclaim(10)
    assert ended == [(b"c", b"value of c"), (b"a", b"value of a")]
    assert keys.entries == {}


def test_reclaiming_is_done_in_steps_of_a_given_size() -> None:
    clock = Clock()
    keys = ExpiringKeys(ignore, clock)
    for number in range(1000):
        keys.put(b"%d" % number, b"", 1 + number % 2)
    clock.now_s += 10
    steps = 0
    while keys.reclaim(100):
        steps += 1
        assert len(keys.entries) == 1000 - 100 * steps
    assert keys.entries == {}
    assert steps in (9, 10)


def test_a_deadline_that_moves_is_kept_and_takes_no_room_for_ever() -> None:
    clock = Clock()
    keys = ExpiringKeys(ignore, clock)
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
    keys = ExpiringKeys(ignore, Clock())
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
    ended = Ended()
    keys = ExpiringKeys(ended, clock)
    expected: dict[bytes, tuple[float, bytes]] = {}
    untold: dict[bytes, float] = {}
    for count, (step, number, amount) in enumerate(steps):
        key, value = b"%d" % number, b"%d" % count
        deadline_s, stored = expected.get(key, (0.0, b""))
        if deadline_s > clock.now_s and step in ("put", "pop"):
            del untold[stored]
        if step == "put":
            keys.put(key, value, amount)
            expected[key] = clock.now_s + amount, value
            untold[value] = clock.now_s + amount
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
        while ended:
            assert untold.pop(ended.pop()[1]) <= clock.now_s
    clock.now_s += 100
    while keys.reclaim(7):
        pass
    assert keys.entries == {}
    assert {value for _, value in ended} == set(untold)
