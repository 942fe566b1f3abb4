"""Replies that the disk store remembers: right whoever else writes to the file, and after writes that were undone."""

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest
from lmdb.verify import verify
from store_calls import sent

from kvss_gevent.protocol.wire import parse_request
from kvss_gevent.stores.base import Command
from kvss_gevent.stores.disk import transaction
from kvss_gevent.stores.disk.disk_store import DiskStore
from kvss_gevent.stores.disk.transaction import NoRoom
from kvss_gevent.stores.memory import MemoryStore

NO_LIMIT = 1 << 30

OTHER = """
import json, sys
from pathlib import Path
from kvss_gevent.protocol.wire import Verb
from kvss_gevent.stores.disk.disk_store import DiskStore
store = DiskStore(Path(sys.argv[1]), sync="none")
for step in sys.stdin:
    batch = [(Verb(verb), key.encode(), value.encode()) for verb, key, value in json.loads(step)]
    replies = store.transact([(batch, 1 << 30)])[0]
    print(json.dumps([reply.decode() for reply in replies]), flush=True)
store.close()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data.kv"


@pytest.fixture
def store(path: Path) -> Iterator[DiskStore]:
    opened = DiskStore(path, sync="none", max_bytes=1 << 20)
    yield opened
    opened.close()


class FailingHandle:
    """An LMDB environment whose write transactions fail at their commit."""

    def __init__(self, real: lmdb.Environment) -> None:
        self._real = real

    def begin(self, *, write: bool = False) -> Any:
        return FailingTransaction(self._real.begin(write=True)) if write else self._real.begin()


class FailingTransaction:
    """A transaction whose commit fails, as if the disk had."""

    def __init__(self, real: lmdb.Transaction) -> None:
        self._real = real

    def commit(self) -> None:
        self._real.abort()
        raise lmdb.DiskError("planted")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def commands(*lines: bytes) -> list[Command]:
    return sent([parse_request(line) for line in lines])


def run(store: DiskStore, *lines: bytes) -> list[bytes]:
    return [reply[:-1] for reply in store.transact([(commands(*lines), NO_LIMIT)])[0]]


def test_two_processes_that_write_in_turn_never_answer_from_an_old_state(store: DiskStore, path: Path) -> None:
    chance = random.Random(7)
    model = MemoryStore()

    def line(number: int) -> bytes:
        key = chance.choice([b"a", b"b", b"c"])
        verb = chance.choice([b"GET", b"GET", b"PUT", b"DEL"])
        return b"KV/1.0 %b %b" % (verb, key) + (b" v%d" % number if verb == b"PUT" else b"")

    with subprocess.Popen(
        [sys.executable, "-c", OTHER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin
        assert other.stdout
        for step in range(2000):
            lines = [line(step) for _ in range(chance.randint(1, 4))]
            if chance.random() < 0.5:
                replies = run(store, *lines)
            else:
                batch = [(int(verb), key.decode(), value.decode()) for verb, key, value in commands(*lines)]
                other.stdin.write(json.dumps(batch) + "\n")
                other.stdin.flush()
                replies = [reply.encode()[:-1] for reply in json.loads(other.stdout.readline())]
            expected = [reply[:-1] for reply in model.apply(commands(*lines), NO_LIMIT)]
            assert replies == expected, f"step {step}: {lines}"
        other.stdin.close()
        assert other.wait(20) == 0


def test_jobs_of_one_transaction_see_those_before_them(store: DiskStore) -> None:
    run(store, b"KV/1.0 PUT a 1", b"KV/1.0 GET a")
    jobs = [(commands(line), 99) for line in (b"KV/1.0 GET a", b"KV/1.0 DEL a", b"KV/1.0 GET a")]
    assert store.transact(jobs) == [[b"200 OK 1\n"], [b"204 NO_CONTENT\n"], [b"404 NOT_FOUND\n"]]


def test_a_transaction_that_was_undone_leaves_nothing_behind(store: DiskStore) -> None:
    run(store, b"KV/1.0 PUT a 1", b"KV/1.0 GET a")
    assert run(store, b"KV/1.0 PUT a 2", b"KV/1.0 GET a", b"KV/1.0 PUT big " + b"x" * 1_040_000) == [
        b"200 OK",
        b"200 OK 2",
        b"500 SERVER_ERROR",
    ], "each command had a transaction of its own"
    begun = store.begin()
    small, large = commands(b"KV/1.0 PUT a 3", b"KV/1.0 PUT big " + b"x" * 1_040_000)
    assert begun.run(*small) == b"200 OK\n"
    with pytest.raises(lmdb.MapFullError) as full:
        begun.run(*large)
    assert isinstance(begun.undo(full.value), NoRoom)
    assert run(store, b"KV/1.0 GET a", b"KV/1.0 DEL a") == [b"200 OK 2", b"204 NO_CONTENT"]


def test_a_commit_that_failed_is_not_remembered(store: DiskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    run(store, b"KV/1.0 PUT a 1", b"KV/1.0 GET a")
    real = store.environment.handle
    monkeypatch.setattr(store.environment, "handle", FailingHandle(real))
    monkeypatch.setattr(store.environment, "mend", lambda: None)
    store.transact([(commands(b"KV/1.0 PUT a 2", b"KV/1.0 GET a"), NO_LIMIT)])
    monkeypatch.setattr(store.environment, "handle", real)
    assert run(store, b"KV/1.0 GET a", b"KV/1.0 PUT b 1") == [b"200 OK 1", b"201 CREATED"]


def test_what_is_remembered_is_bounded_in_number_and_size(store: DiskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transaction, "RECENT_REPLIES", 4)
    large = b"x" * transaction.RECENT_REPLY_BYTES
    remembered = store._recent.table
    for number in range(20):
        replies = run(store, b"KV/1.0 PUT %d %d" % (number, number), b"KV/1.0 GET %d" % number, b"KV/1.0 GET none")
        assert replies == [b"201 CREATED", b"200 OK %d" % number, b"404 NOT_FOUND"]
        assert len(remembered) <= 4
    for lines in (
        [b"KV/1.0 PUT 19 " + large, b"KV/1.0 GET 19"],
        [b"KV/1.0 GET 18", b"KV/1.0 PUT 18 " + large],
        [b"KV/1.0 GET 18", b"KV/1.0 DEL 18", b"KV/1.0 GET 18"],
    ):
        run(store, *lines)
        assert max(map(len, remembered.values()), default=0) <= transaction.RECENT_REPLY_BYTES


@pytest.mark.parametrize(("large", "small"), [(5000, 1), (5000, 3000), (9000, 5000), (100_000, 4000)])
def test_a_value_that_shrinks_in_its_own_transaction_leaves_a_whole_file(
    store: DiskStore, path: Path, large: int, small: int
) -> None:
    run(store, *(b"KV/1.0 PUT a " + b"x" * size for size in (large, small)))
    assert run(store, b"KV/1.0 GET a") == [b"200 OK " + b"x" * small]
    assert store.count() == 1
    store.environment.handle.sync(True)
    assert verify(str(path), subdir=False) == []
