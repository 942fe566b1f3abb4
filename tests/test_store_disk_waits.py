"""The disk store where something does not end: each wait has a bound, and then the answer is 500."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import lmdb
import pytest
from serving import wait_until
from store_calls import sent

from kvss_gevent.core.conversation import Limits
from kvss_gevent.core.service import Service
from kvss_gevent.protocol.wire import Verb
from kvss_gevent.stores.base import StoreError
from kvss_gevent.stores.disk import disk_store, environment
from kvss_gevent.stores.disk.disk_store import DiskStore
from kvss_gevent.stores.disk.environment import TRIES
from kvss_gevent.stores.disk.file import map_lock

GET = sent([(Verb.GET, b"a", b"")])
PUT = sent([(Verb.PUT, b"a", b"2")])
NO_LIMIT = 1 << 30
SERVER_ERROR = b"500 SERVER_ERROR\n"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DiskStore]:
    opened = DiskStore(tmp_path / "data.kv", sync="none")
    opened.apply(sent([(Verb.PUT, b"a", b"1")]), NO_LIMIT)
    yield opened
    opened.close()


class Growing:
    """An environment that other servers let grow before each transaction of ours."""

    def __init__(self) -> None:
        self.begun = 0

    def begin(self, **_: bool) -> object:
        self.begun += 1
        raise lmdb.MapResizedError("planted")

    def set_mapsize(self, _: int) -> None:
        pass


def test_a_file_that_grows_without_end_is_followed_so_far(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(store.environment, "handle", growing := Growing())
        with pytest.raises(StoreError, match="let it grow all the time"):
            store.read(GET, NO_LIMIT)
        assert growing.begun == TRIES + 1
        growing.begun = 0
        assert store.transact([(PUT, NO_LIMIT)]) == [[SERVER_ERROR]]
        assert growing.begun == TRIES
        assert sum("writes get 500, reads go on" in message for message in caplog.messages) == 1
    assert store.read(GET, NO_LIMIT) == [b"200 OK 1\n"]


class GivenUp:
    """An environment that LMDB has given up."""

    def __init__(self, inner: lmdb.Environment) -> None:
        self.inner = inner

    def begin(self, **_: bool) -> object:
        raise lmdb.PanicError("planted")

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)


@pytest.mark.timing
def test_clients_are_told_so_while_the_file_is_opened_again_and_the_disk_hangs(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    session = Service(store, Limits()).open()
    monkeypatch.setattr(map_lock, "WAIT_S", 0.05)
    opening, goes_on = threading.Event(), threading.Event()
    real = environment.DataFile

    def slow(*args: object, **options: object) -> object:
        opening.set()
        assert goes_on.wait(10)
        return real(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(environment, "DataFile", slow)
    store.environment.handle = GivenUp(store.environment.handle)
    writer = threading.Thread(target=store.transact, args=([(PUT, NO_LIMIT)],))
    writer.start()
    try:
        assert opening.wait(10)
        assert session.receive(b"KV/1.0 GET a\n") == SERVER_ERROR
        started_s = time.monotonic()
        for _ in range(100):
            assert session.receive(b"KV/1.0 GET a\n") == SERVER_ERROR
            assert session.receive(b"KV/1.0 STATS\n") == SERVER_ERROR
        assert time.monotonic() - started_s < 2  # 200 waits of 50 ms would be 10 s
        assert any("the store failed: cannot read" in message for message in caplog.messages)
    finally:
        goes_on.set()
        writer.join(10)
    assert session.receive(b"KV/1.0 GET a\n") == b"200 OK 1\n"
    assert session.receive(b"KV/1.0 PUT a 3\n") == b"200 OK\n"


@pytest.mark.timing
def test_a_transaction_that_does_not_end_keeps_the_next_waiting_for_so_long(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_store, "TURN_S", 0.05)
    with store.environment.map.writing:
        started_s = time.monotonic()
        assert store.transact([(PUT, NO_LIMIT)]) == [[SERVER_ERROR]]
        assert time.monotonic() - started_s < 2
        assert store.read(GET, NO_LIMIT) == [b"200 OK 1\n"]
    assert store.transact([(PUT, NO_LIMIT)]) == [[b"200 OK\n"]]


HOLDER = """
import sys, lmdb
environment = lmdb.open(sys.argv[1], subdir=False, lib_version=0)
for _ in sys.stdin:
    with environment.begin(write=True) as txn:
        print("begun", flush=True)
        sys.stdin.readline()
    print("ended", flush=True)
"""


def test_a_transaction_of_another_process_keeps_a_writer_waiting_for_so_long(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(disk_store, "HELD_INLINE_S", 0.1)
    command = [sys.executable, "-c", HOLDER, str(store.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as other:
        assert other.stdin
        assert other.stdout
        for _ in range(2):  # the second transaction is another one, and gets a wait of its own
            other.stdin.write("begin\n")
            assert other.stdout.readline() == "begun\n"
            started_s = time.monotonic()
            assert store.transact([(PUT, NO_LIMIT)]) == [[SERVER_ERROR]]
            assert time.monotonic() - started_s >= 0.1
            monkeypatch.setattr(disk_store, "HELD_INLINE_S", 60.0)
            assert store.transact([(PUT, NO_LIMIT)] * 100) == [[SERVER_ERROR]] * 100, "only the first one waits"
            monkeypatch.setattr(disk_store, "HELD_INLINE_S", 0.1)
            assert store.read(GET, NO_LIMIT) != [SERVER_ERROR]
            other.stdin.write("end\n")
            assert other.stdout.readline() == "ended\n"
            assert store.transact([(PUT, NO_LIMIT)]) == [[b"200 OK\n"]]
        other.stdin.write("begin\n")
        assert other.stdout.readline() == "begun\n"
        other.kill()  # a process that has died holds nothing
        other.wait(10)
        assert store.transact([(PUT, NO_LIMIT)]) == [[b"200 OK\n"]]
    assert "another process has not ended its transaction for 0.1 s" in caplog.text


@pytest.mark.timing
def test_readers_of_a_file_that_grew_do_not_each_wait_for_a_writer_that_hangs(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(map_lock, "WAIT_S", 0.05)
    with monkeypatch.context() as patch, store.environment.map.writing:
        patch.setattr(store.environment, "handle", Growing())
        started_s = time.monotonic()
        for _ in range(100):
            with pytest.raises(StoreError, match="a transaction has not ended"):
                store.read(GET, NO_LIMIT)
        assert time.monotonic() - started_s < 2  # 100 waits of 50 ms would be 5 s
    assert store.read(GET, NO_LIMIT) == [b"200 OK 1\n"]


def test_closing_ends_where_the_disk_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(environment, "CLOSE_S", 0.05)
    monkeypatch.setattr(environment, "KEEP_INTERVAL_S", 0.01)
    hangs, goes_on = threading.Event(), threading.Event()
    store = DiskStore(tmp_path / "data.kv")

    def hang(last_page: int | None) -> tuple[str, bool]:
        hangs.set()
        goes_on.wait(10)
        return "", False

    monkeypatch.setattr(store.environment.file, "lost", hang)
    assert hangs.wait(10)
    assert store.read(GET, NO_LIMIT) == [b"404 NOT_FOUND\n"]  # and readers do not wait for it
    store.close()
    assert sum("the disk did not answer" in message for message in caplog.messages) == 1
    goes_on.set()
    wait_until(lambda: not store.environment._keeper.is_alive())
