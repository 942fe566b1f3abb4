"""The checker of histories knows deadlines: it takes what the memory store does, and tells what ends early or stays."""

import random
from collections.abc import Callable

import pytest
from test_expiry import Clock

from kvss_gevent.conformance.races.linearizability import UNKNOWN, Operation, is_linearizable, violations
from kvss_gevent.protocol.wire import DEL, EXPIRE, GET, PERSIST, PUT, PUTEX, TTL, Verb
from kvss_gevent.stores.memory import MemoryStore

PUT_FOR_10 = Operation(PUTEX, b"k", 0, 1, b"1", lasts=10)


def get(began: float, ended: float, found: bytes | None) -> Operation:
    return Operation(GET, b"k", began, ended, found=found)


def test_a_key_is_there_until_the_earliest_deadline_and_gone_after_the_latest() -> None:
    assert is_linearizable([PUT_FOR_10, get(8, 9, b"1")])
    assert not is_linearizable([PUT_FOR_10, get(8, 9, None)])
    assert is_linearizable([PUT_FOR_10, get(12, 13, None)])
    assert not is_linearizable([PUT_FOR_10, get(12, 13, b"1")])
    for found in (b"1", None):
        assert is_linearizable([PUT_FOR_10, get(10.2, 10.4, found)])


def test_what_has_ended_does_not_come_back() -> None:
    assert is_linearizable([PUT_FOR_10, get(10.1, 10.2, b"1"), get(10.3, 10.4, None)])
    assert not is_linearizable([PUT_FOR_10, get(10.1, 10.2, None), get(10.3, 10.4, b"1")])


def test_every_command_after_the_deadline_finds_the_key_absent() -> None:
    for verb in (PUT, PUTEX, DEL, EXPIRE, PERSIST, TTL):
        for was_there in (True, False):
            late = Operation(verb, b"k", 12, 13, b"2", was_there=was_there, lasts=5)
            assert is_linearizable([PUT_FOR_10, late]) is not was_there


def test_a_deadline_can_be_moved_and_taken_away() -> None:
    moved = Operation(EXPIRE, b"k", 2, 3, was_there=True, lasts=20)
    assert is_linearizable([PUT_FOR_10, moved, get(15, 16, b"1")])
    assert not is_linearizable([PUT_FOR_10, moved, get(24, 25, b"1")])
    for permanent in (Operation(PERSIST, b"k", 2, 3, was_there=True), Operation(PUT, b"k", 2, 3, b"1", was_there=True)):
        assert is_linearizable([PUT_FOR_10, permanent, get(100, 101, b"1")])
        assert not is_linearizable([PUT_FOR_10, permanent, get(100, 101, None)])


def test_a_write_without_an_answer_may_end_at_any_time_from_its_earliest_deadline_on() -> None:
    unknown = Operation(PUTEX, b"k", 0, UNKNOWN, b"1", lasts=10)
    assert is_linearizable([unknown, get(100, 101, b"1"), get(102, 103, None)])
    assert not is_linearizable([unknown, get(5, 6, b"1"), get(7, 8, None)])


def recorded(store: MemoryStore, clock: Clock, seed: int) -> list[Operation]:
    """Let three clients whose requests overlap use a store; return the history."""
    chance = random.Random(seed)
    history = []
    free_s = [clock.now_s] * 3
    for serial in range(120):
        clock.now_s += chance.choice([0.01, 0.1, 0.5])
        client = chance.randrange(3)
        if free_s[client] >= clock.now_s:
            continue
        verb = chance.choice([*[GET] * 8, PUT, PUTEX, PUTEX, DEL, EXPIRE, PERSIST])
        value, seconds = b"%d" % serial, chance.randrange(1, 4)
        arguments = {PUT: value, PUTEX: b"%d %b" % (seconds, value), EXPIRE: b"%d" % seconds}
        reply = store.run(verb, b"k", arguments.get(verb, b"") + b"\n")
        began_s = max(free_s[client], clock.now_s - chance.random() / 3)
        free_s[client] = clock.now_s + chance.random() / 3
        found = reply[7:-1] if verb == GET and reply.startswith(b"200") else None
        was_there = reply == b"200 OK\n" or reply.startswith(b"204")
        lasts = seconds if verb in (PUTEX, EXPIRE) else float("inf")
        history.append(Operation(Verb(verb), b"k", began_s, free_s[client], value, found, was_there, lasts))
    return history


@pytest.mark.parametrize("seed", range(10))
def test_what_the_memory_store_does_is_linearizable(seed: int) -> None:
    clock = Clock()
    assert violations(recorded(MemoryStore(clock=clock), clock, seed)) == []


@pytest.mark.parametrize(
    "wrong",
    [lambda now_ns: now_ns * 2 - 10**12, lambda now_ns: now_ns // 2],
    ids=["ends at half its time", "ends at twice its time"],
)
def test_a_store_whose_clock_is_wrong_is_found(wrong: Callable[[int], int]) -> None:
    found = []
    for seed in range(10):
        clock = Clock()
        store = MemoryStore(clock=lambda: wrong(clock()))  # noqa: B023 - used up within the round
        found.append(violations(recorded(store, clock, seed)))
    assert found.count([b"k"]) > 4, "some histories have no value that ends"
