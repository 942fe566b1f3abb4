"""Keys that expire in the disk store's file: by the wall clock, across restarts, with an index that is always right."""

import math
import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import gevent
import lmdb
import pytest
from lmdb.verify import verify
from test_expiry import Clock
from test_expiry_stores import random_command

from kvss_gevent.protocol.wire import DEL, EXPIRE, GET, PERSIST, PUT, PUTEX, TTL
from kvss_gevent.stores.base import Command
from kvss_gevent.stores.disk import disk_store
from kvss_gevent.stores.disk.deadlines import NAME
from kvss_gevent.stores.disk.disk_store import DiskStore
from kvss_gevent.stores.disk.gathering import gathering
from kvss_gevent.stores.disk.transaction import RECLAIMED_KEYS
from kvss_gevent.stores.memory import MemoryStore

LIMIT = 1 << 20
SERVER_ERROR = b"500 SERVER_ERROR\n"
LONG = [b"k" * 503, b"k" * 504, b"k" * 511, b"k" * 510 + b"x"]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def opener(tmp_path: Path, clock: Clock) -> Callable[[], DiskStore]:
    return lambda: DiskStore(tmp_path / "data.kv", sync="none", clock=lambda: clock() // 1_000_000)


@pytest.fixture(autouse=True)
def _a_machine_that_is_quick_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_store, "RECLAIM_S", math.inf)


def index_of(path: Path) -> list[bytes]:
    with lmdb.open(str(path), subdir=False, readonly=True, max_dbs=1) as env:
        index = env.open_db(NAME, create=False)
        with env.begin() as txn:
            return [bytes(key) for key in txn.cursor(db=index).iternext(values=False)]


@pytest.mark.parametrize("seed", range(4))
def test_it_does_what_the_memory_store_does_while_time_goes_on(
    opener: Callable[[], DiskStore], clock: Clock, seed: int, tmp_path: Path
) -> None:
    chance = random.Random(seed)
    disk, memory = opener(), MemoryStore(clock=clock)
    for _ in range(40):
        batch = [random_command(chance) for _ in range(chance.randrange(1, 8))]
        batch = [(verb, chance.choice([key, *LONG]), value) for verb, key, value in batch]
        assert disk.apply(batch, LIMIT) == memory.apply(batch, LIMIT)
        clock.now_s += chance.choice([0, 0.25, 999.75, 1000, 3000])
        gets: list[Command] = [(verb, key, b"\n") for key in (b"a", b"b", *LONG) for verb in (GET, TTL)]
        assert disk.apply(gets, LIMIT) == memory.apply(gets, LIMIT)
        assert disk.count() == sum(
            reply != b"404 NOT_FOUND\n"
            for reply in memory.apply([(TTL, key, b"\n") for key in (b"a", b"b", b"c", *LONG)], LIMIT)
        )
        if chance.random() < 0.2:
            disk.close()
            disk = opener()
    clock.now_s += 2_000_000_000
    while disk.has_ended():
        disk.apply([(DEL, b" ", b"\n")], LIMIT)
    disk.close()
    assert index_of(tmp_path / "data.kv") == []
    assert verify(str(tmp_path / "data.kv"), subdir=False) == []


def test_what_replaces_or_deletes_a_key_takes_its_deadline_out_of_the_index(
    opener: Callable[[], DiskStore], tmp_path: Path
) -> None:
    store = opener()
    for number in range(50):
        put: Command = (PUTEX, b"k", b"%d v\n" % (number + 1))
        other: Command = [(PUT, b"k", b"v\n"), (DEL, b"k", b"\n"), (EXPIRE, b"k", b"9\n"), (PERSIST, b"k", b"\n")][
            number % 4
        ]
        store.apply([put], LIMIT)
        store.apply([other], LIMIT)
    store.apply([(PUTEX, b"k", b"7 v\n"), (EXPIRE, b"k", b"9\n")], LIMIT)
    store.close()
    assert len(index_of(tmp_path / "data.kv")) == 1


def test_a_file_from_before_deadlines_is_read_and_its_keys_can_expire(
    opener: Callable[[], DiskStore], clock: Clock, tmp_path: Path
) -> None:
    with lmdb.open(str(tmp_path / "data.kv"), subdir=False, map_size=1 << 20) as env, env.begin(write=True) as txn:
        txn.put(b" kvss-gevent", b"1")
        txn.put(b"old", b"\x01" + bytes(8) + b"value")
    store = opener()
    asked: list[Command] = [(GET, b"old", b"\n"), (TTL, b"old", b"\n"), (EXPIRE, b"old", b"5\n"), (TTL, b"old", b"\n")]
    assert store.count() == 1
    assert store.apply(asked, LIMIT) == [b"200 OK value\n", b"200 OK -1\n", b"200 OK\n", b"200 OK 5\n"]
    clock.now_s += 5
    assert store.apply(asked[:1], LIMIT) == [b"404 NOT_FOUND\n"]
    assert store.count() == 0
    store.close()


def test_a_clock_that_is_set_moves_deadlines_and_loses_no_other_key(
    opener: Callable[[], DiskStore], clock: Clock
) -> None:
    store = opener()
    store.apply([(PUTEX, b"k", b"100 v\n"), (PUT, b"stays", b"v\n")], LIMIT)
    ask: list[Command] = [(GET, b"k", b"\n"), (TTL, b"k", b"\n"), (GET, b"stays", b"\n")]
    clock.now_s -= 500  # set back: it ends late
    assert store.apply(ask, LIMIT) == [b"200 OK v\n", b"200 OK 600\n", b"200 OK v\n"]
    clock.now_s += 1000  # set forward: it has ended, and is there again only as long as nothing was written
    assert store.apply(ask, LIMIT) == [b"404 NOT_FOUND\n", b"404 NOT_FOUND\n", b"200 OK v\n"]
    store.apply([(PUT, b"other", b"v\n")], LIMIT)
    clock.now_s -= 500
    assert store.apply(ask, LIMIT) == [b"404 NOT_FOUND\n", b"404 NOT_FOUND\n", b"200 OK v\n"]
    store.close()


def test_one_transaction_deletes_a_bounded_number_of_ended_keys(opener: Callable[[], DiskStore], clock: Clock) -> None:
    store = opener()
    keys = [b"key %d" % number for number in range(2 * RECLAIMED_KEYS + 10)]
    store.apply([(PUTEX, key, b"5 v\n") for key in keys], LIMIT)
    clock.now_s += 6
    assert store.count() == 0
    entries = [store.environment.handle.stat()["entries"]]
    while store.has_ended():
        store.apply([(PUT, b"one", b"v\n")], LIMIT)
        entries.append(store.environment.handle.stat()["entries"])
    assert [before - after for before, after in pairwise(entries)] == [
        RECLAIMED_KEYS - 1,
        RECLAIMED_KEYS,
        10,
    ]
    store.close()


def test_where_no_thread_deletes_ended_keys_a_transaction_does_it_for_a_bounded_time(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DiskStore(tmp_path / "data.kv", sync="none", clock=lambda: clock() // 1_000_000)
    store.apply([(PUTEX, b"key %d" % number, b"5 v\n") for number in range(9)], LIMIT)
    clock.now_s += 6
    monkeypatch.setattr(disk_store, "RECLAIM_S", 0.0)
    for left in range(8, -1, -1):
        store.apply([(DEL, b"none", b"\n")], LIMIT)
        assert store.expired_keys == 9 - left
    assert not store.has_ended()
    store.close()


def test_where_there_is_no_room_to_delete_ended_keys_clients_are_served(tmp_path: Path, clock: Clock) -> None:
    store = DiskStore(tmp_path / "data.kv", sync="none", max_bytes=1 << 20, clock=lambda: clock() // 1_000_000)
    number = 0
    while store.apply([(PUTEX, b"%0500d" % number, b"5 " + b"x" * 500 + b"\n")], LIMIT) == [b"201 CREATED\n"]:
        number += 1
    clock.now_s += 6
    assert store.count() == 0
    replies = []
    for _ in range(20):
        replies += store.apply([(DEL, b"none", b"\n"), (PUT, b"new", b"v\n")], LIMIT)
    assert replies[-2:] == [b"404 NOT_FOUND\n", b"200 OK\n"]
    assert not store.has_ended()
    assert store.expired_keys == number
    store.close()


@pytest.mark.parametrize("meanwhile", [(DEL, b"none", b"\n"), (PUT, b"one", b"v\n")])
def test_a_full_file_of_keys_that_end_has_room_again(tmp_path: Path, clock: Clock, meanwhile: Command) -> None:
    store = DiskStore(tmp_path / "data.kv", sync="none", max_bytes=2 << 20, clock=lambda: clock() // 1_000_000)
    value = b"x" * 1000 + b"\n"
    number = 0
    while store.apply([(PUTEX, b"%d" % number, (b"5 " if number < 20 else b"6 ") + value)], LIMIT) != [SERVER_ERROR]:
        number += 1
    for _ in range(2):  # the first keys to end leave pages that are only partly used
        clock.now_s += 5.5
        for _ in range(40):
            store.apply([meanwhile], LIMIT)
    assert not store.has_ended()
    assert store.expired_keys == number
    replies = store.apply([(PUT, b"new %d" % key, value) for key in range(number // 2)], LIMIT)
    assert set(replies) == {b"201 CREATED\n"}
    store.close()


def test_a_full_file_has_room_to_delete_from_trees_of_many_levels(tmp_path: Path, clock: Clock) -> None:
    store = DiskStore(tmp_path / "data.kv", sync="none", max_bytes=2 << 20, clock=lambda: clock() // 1_000_000)
    names = random.Random(1).sample(range(10_000), 10_000)
    number = 0
    while store.apply(
        [(PUTEX, b"%0500d" % names[number], (b"5 " if number < 20 else b"6 ") + b"v" * 300 + b"\n")], LIMIT
    ) != [SERVER_ERROR]:
        number += 1
    for _ in range(2):  # the first keys to end make no page free
        clock.now_s += 5.5
        for _ in range(60):
            assert store.apply([(DEL, b"none", b"\n")], LIMIT) == [b"404 NOT_FOUND\n"]
    assert store.expired_keys == number
    store.close()


def test_keys_that_were_replaced_after_their_end_count_as_expired_and_others_do_not(
    opener: Callable[[], DiskStore], clock: Clock
) -> None:
    store = opener()
    store.apply([(PUTEX, key, b"5 v\n") for key in (b"a", b"b", b"live")], LIMIT)
    store.apply([(PUT, b"live", b"v\n"), (DEL, b"b", b"\n")], LIMIT)
    assert store.expired_keys == 0
    clock.now_s += 6
    assert store.apply([(PUT, b"a", b"v\n")], LIMIT) == [b"201 CREATED\n"]
    assert store.expired_keys == 1
    store.close()


@pytest.mark.parametrize("synced", [True, False])
def test_keys_that_have_ended_are_deleted_while_nobody_writes(
    opener: Callable[[], DiskStore], clock: Clock, *, synced: bool
) -> None:
    disk = opener()
    store = gathering(disk, synced=synced)
    greenlet = gevent.spawn(store.apply, [(PUTEX, b"%d" % number, b"5 v\n") for number in range(600)], LIMIT)
    greenlet.join(5)
    clock.now_s += 6
    greenlet = gevent.spawn(lambda: [store.reclaim(1), store.reclaim(1), store.reclaim(1)])
    greenlet.join(5)
    assert greenlet.value == [True, False, False]
    assert store.expired_keys == 600
    assert disk.environment.handle.stat()["entries"] == 2
    store.close()


@pytest.mark.parametrize("synced", [True, False])
def test_where_nothing_can_be_deleted_it_is_not_tried_again_at_once(
    opener: Callable[[], DiskStore], clock: Clock, monkeypatch: pytest.MonkeyPatch, *, synced: bool
) -> None:
    disk = opener()
    disk.apply([(PUTEX, b"k", b"5 v\n")], LIMIT)
    clock.now_s += 6
    store = gathering(disk, synced=synced)
    monkeypatch.setattr(disk, "transact", lambda jobs: [[SERVER_ERROR]] * len(jobs))
    greenlet = gevent.spawn(store.reclaim, 1)
    greenlet.join(5)
    assert greenlet.value is False
    assert disk.has_ended()
    store.close()
