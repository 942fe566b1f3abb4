"""Keys that expire (rule 15), on every store: the replies are those of the memory store, and keys end in time."""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from valkeys import need_server, running

from kvss_gevent.protocol.wire import DEL, EXPIRE, GET, PERSIST, PUT, PUTEX, TTL
from kvss_gevent.stores.base import Command, Store
from kvss_gevent.stores.disk.disk_store import DiskStore
from kvss_gevent.stores.memory import MemoryStore
from kvss_gevent.stores.remote.remote_store import RemoteStore

LIMIT = 1 << 20


@pytest.fixture(params=["memory", "disk", pytest.param("redis", marks=pytest.mark.server)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "memory":
        yield MemoryStore()
    elif request.param == "disk":
        disk = DiskStore(tmp_path / "data.kv", sync="none")
        yield disk
        disk.close()
    else:
        need_server()
        with running(1, cluster=False) as (server,):
            remote = RemoteStore([server.address])
            yield remote
            remote.close()


def random_command(chance: random.Random) -> Command:
    key = chance.choice([b"a", b"b", b"c"])
    value = b"value %d\n" % chance.randrange(100)
    seconds = chance.choice([1000, 2000, 1_000_000_000])
    return chance.choice(
        [
            (GET, key, b"\n"),
            (PUT, key, value),
            (DEL, key, b"\n"),
            (TTL, key, b"\n"),
            (PERSIST, key, b"\n"),
            (EXPIRE, key, b"%d\n" % seconds),
            (PUTEX, key, b"%d %b" % (seconds, value)),
        ]
    )


def rounded(replies: list[bytes], batch: list[Command]) -> list[bytes]:
    """Replies with times to the nearest hundred: some seconds may pass between two stores."""
    return [
        b"%d" % round(int(reply[7:]), -2) if verb == TTL and reply.startswith(b"200") and b"-" not in reply else reply
        for reply, (verb, _, _) in zip(replies, batch, strict=True)
    ]


def test_the_replies_are_those_of_the_memory_store(store: Store) -> None:
    chance = random.Random(15)
    memory = MemoryStore()
    for _ in range(60):
        batch = [random_command(chance) for _ in range(chance.randrange(1, 12))]
        assert rounded(store.apply(batch, LIMIT), batch) == rounded(memory.apply(batch, LIMIT), batch)
    assert store.count() == memory.count()


def test_a_key_ends_in_time_and_not_before(store: Store) -> None:
    began_s = time.monotonic()
    batch = [(PUTEX, b"k", b"1 v\n"), (PUTEX, b"other", b"9 v\n"), (TTL, b"k", b"\n"), (PUT, b"moves", b"v\n")]
    assert store.apply(batch, LIMIT)[2] == b"200 OK 1\n"
    store.apply([(EXPIRE, b"moves", b"1\n")], LIMIT)
    stored_s = time.monotonic()
    gets = [(GET, b"k", b"\n"), (GET, b"moves", b"\n"), (TTL, b"k", b"\n")]
    while time.monotonic() < stored_s + 5:
        asked_s = time.monotonic()
        replies = store.apply(gets, LIMIT)
        if time.monotonic() < began_s + 0.99:
            assert replies == [b"200 OK v\n", b"200 OK v\n", b"200 OK 1\n"]
        if asked_s > stored_s + 1.01:
            break
        time.sleep(0.02)
    assert replies == [b"404 NOT_FOUND\n"] * 3
    assert store.apply([(PUT, b"k", b"new\n"), (DEL, b"moves", b"\n"), (GET, b"other", b"\n")], LIMIT) == [
        b"201 CREATED\n",
        b"404 NOT_FOUND\n",
        b"200 OK v\n",
    ]
