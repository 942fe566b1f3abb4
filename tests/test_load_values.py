"""loadtest/values.py: what a right server may answer is accepted in every order of events, what it may not is found."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvss_gevent.loadtest.workload.proving_values import (
    LOST,
    NO_READ,
    NOT_PROVEN,
    STALE,
    TORN,
    WRONG_KEY,
    Ledger,
    filler,
    key_bytes,
    least_bytes,
    make_value,
)
from kvss_gevent.loadtest.workload.shared_columns import SharedColumns
from kvss_gevent.protocol.wire import OK_PREFIX

TOKEN = b"0a1b2c3d"


def reply(key: int, version: int, floor: int, writer: bytes = TOKEN + b".0", size: int = 100) -> bytes:
    return OK_PREFIX + make_value(key_bytes(key), writer, version, floor, size)


def written(ledger: Ledger, key: int, delete: bool = False) -> int:
    version, floor = ledger.begin(key, delete)
    ledger.end(key, floor)
    return version


def test_a_value_has_the_size_asked_for() -> None:
    for size in (least_bytes(1000), 100, 5000, 200_000):
        value = make_value(b"user999", TOKEN + b".0", 123456, 123455, size)
        assert len(value) == size
        assert value.isascii()
        assert b"\n" not in value


def test_filler_has_any_length() -> None:
    assert [len(filler(size)) for size in (1, 65536, 65537, 300_000)] == [1, 65536, 65537, 300_000]


def test_the_value_written_last_is_right_and_the_one_before_is_stale() -> None:
    ledger = Ledger(10, TOKEN, loaded=True)
    version = written(ledger, 3)
    floor = ledger.floor[3]
    assert ledger.judge(3, floor, reply(3, version, version - 1)) == NO_READ
    assert ledger.judge(3, floor, reply(3, version - 1, 0)) == STALE


def test_another_keys_value_and_a_torn_value_have_names_of_their_own() -> None:
    ledger = Ledger(10, TOKEN, loaded=True)
    right = reply(3, 1, 0)
    assert ledger.judge(4, 0, right) == WRONG_KEY
    for torn in (right[:-1], right + b"x", right.replace(b"!", b'"', 1), OK_PREFIX + b"hello", OK_PREFIX):
        assert torn != right
        assert ledger.judge(3, 0, torn) == TORN


def test_a_miss_is_right_until_the_key_is_known_to_be_there() -> None:
    assert Ledger(10, TOKEN).missing(3, -1) == NO_READ
    ledger = Ledger(10, TOKEN, loaded=True)
    assert ledger.missing(3, ledger.floor[3]) == LOST
    written(ledger, 3, delete=True)
    assert ledger.missing(3, ledger.floor[3]) == NO_READ
    written(ledger, 3)
    assert ledger.missing(3, ledger.floor[3]) == LOST


def test_a_delete_may_miss_only_what_was_deleted() -> None:
    ledger = Ledger(10, TOKEN, loaded=True)
    version, _ = ledger.begin(3, delete=True)
    assert ledger.missing_deleted(3, version, gone=False) == LOST
    assert ledger.missing_deleted(3, version, gone=True) == NO_READ
    ledger.begin(3, delete=True)
    assert ledger.missing_deleted(3, version, gone=False) == NO_READ, "a later DEL may have come first"


def test_a_deleted_value_must_not_come_back() -> None:
    ledger = Ledger(10, TOKEN, loaded=True)
    version = written(ledger, 3)
    written(ledger, 3, delete=True)
    assert ledger.judge(3, ledger.floor[3], reply(3, version, version - 1)) == STALE


def test_a_write_without_an_answer_may_take_effect_at_any_time() -> None:
    ledger = Ledger(10, TOKEN, loaded=True)
    unknown, below = ledger.begin(3)
    for _ in range(3):
        written(ledger, 3)
    assert ledger.judge(3, ledger.floor[3], reply(3, unknown, below)) == NO_READ
    assert ledger.judge(3, ledger.floor[3], reply(3, 1, 0)) == STALE


def test_a_refused_write_had_no_effect() -> None:
    ledger = Ledger(10, TOKEN, loaded=True)
    ledger.begin(3)
    ledger.refused(3)
    assert ledger.in_flight[3] == 0


def test_values_of_an_earlier_run_are_stale_only_where_this_run_has_written() -> None:
    foreign = reply(3, 900, 899, writer=b"ffffffff.0")
    assert Ledger(10, TOKEN).judge(3, -1, foreign) == NO_READ
    assert Ledger(10, TOKEN, loaded=True).judge(3, 0, foreign) == STALE


def test_what_another_process_superseded_is_superseded_for_who_has_read_it() -> None:
    ledger = Ledger(10, TOKEN, (0, 2), loaded=True)
    other = TOKEN + b".1"
    assert ledger.judge(3, 0, reply(3, 5, 4, other)) == NO_READ
    assert ledger.judge(3, ledger.floor[3], reply(3, 4, 3, other)) == STALE
    assert ledger.missing(3, ledger.floor[3]) == NO_READ, "the other process may delete its key"


def test_a_process_writes_only_its_own_keys() -> None:
    for count in (1, 2, 9, 10):
        ledgers = [Ledger(count, TOKEN, (worker, 3)) for worker in range(3)]
        for worker, ledger in enumerate(ledgers):
            owned = {ledger.own(key) for key in range(count)}
            assert {key % 3 for key in owned} == {worker}
            assert worker >= count or max(owned) < count, "past the last key it begins anew at its own first"


def test_inserts_grow_the_ledger_by_keys_of_its_own() -> None:
    ledger = Ledger(10, TOKEN, (1, 3), loaded=True)
    first, second = ledger.grow(), ledger.grow()
    assert (first, second) == (10, 13)
    assert ledger.newest() == 9
    ledger.inserting.discard(first)
    assert ledger.newest() == 12
    ledger.inserting.discard(second)
    assert ledger.newest() == 13
    assert written(ledger, second) == 1


def test_a_reply_seen_before_is_remembered_until_it_is_superseded() -> None:
    ledger = Ledger(10, TOKEN, loaded=True)
    assert ledger.proven[3] == NOT_PROVEN
    right = reply(3, 1, 0)
    ledger.judge(3, 0, right)
    assert (ledger.proven[3], ledger.proven_version[3]) == (hash(right), 1)
    written(ledger, 3, delete=True)
    assert ledger.proven[3] == NOT_PROVEN


def test_what_another_process_superseded_is_proven_no_more() -> None:
    ledger = Ledger(10, TOKEN, (0, 2), loaded=True)
    other = TOKEN + b".1"
    ledger.judge(3, 0, reply(3, 5, 4, other))
    ledger.remember(3, 6, reply(3, 6, 4, other))
    ledger.supersede(3, 6)
    assert ledger.proven[3] == NOT_PROVEN
    ledger.remember(3, 5, reply(3, 5, 4, other))
    assert ledger.proven[3] == NOT_PROVEN, "an older version proves nothing"


def test_a_put_is_proven_by_its_answer_and_not_by_one_that_comes_late() -> None:
    ledger = Ledger(10, TOKEN, loaded=True)
    first, low = ledger.begin(3)
    second, high = ledger.begin(3)
    ledger.stored(3, second, high, reply(3, second, high))
    assert ledger.proven[3] == hash(reply(3, second, high))
    ledger.stored(3, first, low, reply(3, first, low))
    assert ledger.proven[3] == hash(reply(3, second, high))
    assert ledger.in_flight[3] == 0
    assert ledger.floor[3] == 1, "the two may have been stored in either order"


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("wdgaxr"), st.integers(0, 7)), max_size=60))
def test_no_order_of_events_makes_a_right_server_look_wrong(events: list[tuple[str, int]]) -> None:
    """One key, many users: writes begin, take effect and are answered in any order; reads lie anywhere between."""
    ledger = Ledger(1, TOKEN, loaded=True)
    state: tuple[int, int] | None = (1, 0)
    begun: list[tuple[int, int, bool]] = []
    applied: list[tuple[int, int, bool]] = []
    reads: list[list[object]] = []
    for kind, pick in events:
        if kind in "wd":
            version, floor = ledger.begin(0, delete=kind == "d")
            begun.append((version, floor, kind == "d"))
        elif kind == "x" and begun:
            write = begun.pop(pick % len(begun))
            state = None if write[2] else write[:2]
            applied.append(write)
        elif kind == "a" and applied:
            ledger.end(0, applied.pop(pick % len(applied))[1])
        elif kind == "g":
            reads.append([ledger.floor[0], None, False])
        elif kind == "r" and reads:
            read = reads[pick % len(reads)]
            if not read[2]:
                read[1:] = [state, True]
            else:
                reads.remove(read)
                floor_then, seen = read[0], read[1]
                assert isinstance(floor_then, int)
                if seen is None:
                    assert ledger.missing(0, floor_then) == NO_READ
                else:
                    assert isinstance(seen, tuple)
                    assert ledger.judge(0, floor_then, reply(0, *seen)) == NO_READ


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("wdapjg"), st.integers(0, 7)), max_size=60))
def test_what_is_proven_is_never_superseded(events: list[tuple[str, int]]) -> None:
    """Whatever the order of events: a reply that the short way takes as proven is one that the long way lets pass."""
    ledger = Ledger(1, TOKEN, loaded=True)
    begun: list[tuple[int, int, bool]] = []
    floors = [ledger.floor[0]]
    replies = [reply(0, 1, 0)]
    for kind, pick in events:
        if kind in "wd":
            version, floor = ledger.begin(0, delete=kind == "d")
            begun.append((version, floor, kind == "d"))
            replies.append(reply(0, version, floor))
        elif kind in "ap" and begun:
            version, floor, deleted = begun.pop(pick % len(begun))
            if deleted or kind == "a":
                ledger.end(0, floor)
            else:
                ledger.stored(0, version, floor, reply(0, version, floor))
        elif kind == "j":
            ledger.judge(0, floors[pick % len(floors)], replies[pick % len(replies)])
        elif kind == "g":
            floors.append(ledger.floor[0])
        for one in replies:
            if hash(one) == ledger.proven[0]:
                assert all(ledger.judge(0, floor_then, one) == NO_READ for floor_then in floors)


@pytest.mark.parametrize("share", [1, 4])
def test_a_new_ledger_has_no_opinion(share: int) -> None:
    ledger = Ledger(8, TOKEN, (0, share))
    assert ledger.judge(5, ledger.floor[5], reply(5, 1, 0)) == NO_READ


@pytest.fixture
def two() -> Iterator[tuple[Ledger, Ledger]]:
    """The ledgers of two processes on one machine, for 8 keys that were loaded."""
    name = uuid4().hex
    columns = [SharedColumns(name, 8, worker, 2) for worker in range(2)]
    yield Ledger(8, TOKEN, (0, 2), True, columns[0]), Ledger(8, TOKEN, (1, 2), True, columns[1])
    assert not list(Path("/dev/shm").glob(f"*{name}*")), "nothing is left"


def test_what_another_process_wrote_must_not_vanish(two: tuple[Ledger, Ledger]) -> None:
    mine, other = two
    assert mine.missing(3, mine.floor[3]) == LOST, "nobody has deleted a key that was loaded"
    _, floor = other.begin(3, delete=True)
    before = mine.floor[3]
    assert mine.missing(3, before) == NO_READ, "the DEL may have taken effect"
    other.end(3, floor)
    assert mine.missing(3, mine.floor[3]) == NO_READ
    version, floor = other.begin(3)
    other.stored(3, version, floor, b"200 OK x")
    assert mine.missing(3, mine.floor[3]) == LOST, "the PUT has been acknowledged"
    assert mine.missing(3, before) == NO_READ, "but the GET was sent before"


def test_what_another_process_has_superseded_is_stale(two: tuple[Ledger, Ledger]) -> None:
    mine, other = two
    values = []
    for _ in range(3):
        version, floor = other.begin(5)
        values.append(make_value(key_bytes(5), other.writer, version, floor, 100))
        other.stored(5, version, floor, b"200 OK " + values[-1])
    assert mine.judge(5, mine.floor[5], b"200 OK " + values[2]) == NO_READ
    assert mine.judge(5, mine.floor[5], b"200 OK " + values[0]) == STALE
    assert mine.proven[5] == NOT_PROVEN, "this process does not hear of it when the other writes again"


def test_a_process_elsewhere_proves_nothing() -> None:
    """Of three processes one is on another machine: its columns are not these."""
    name = uuid4().hex
    columns = [SharedColumns(name, 9, worker, 3) for worker in range(2)]
    ledger = Ledger(9, TOKEN, (0, 3), True, columns[0])
    assert ledger.missing(4, ledger.floor[4]) == LOST
    assert ledger.missing(5, ledger.floor[5]) == NO_READ
    for one in columns:
        one.forget_name()


def test_inserted_keys_have_room_in_shared_columns(two: tuple[Ledger, Ledger]) -> None:
    mine, other = two
    assert (mine.grow(), other.grow()) == (8, 9)
    assert mine.missing(8, mine.floor[8]) == NO_READ, "it is not there yet"
