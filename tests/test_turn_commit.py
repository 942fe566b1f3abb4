"""The writes of one turn of the event loop are one transaction, and no reply is sent before its commit."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from socket import SocketType
from typing import cast

import gevent
import gevent.socket
import lmdb
import pytest
from test_store_records import FailingHandle

from kvss_gevent.core.service import Service
from kvss_gevent.protocol.wire import DEL, GET, PUT
from kvss_gevent.server.connection import Connection
from kvss_gevent.server.gevent_server import KVServer
from kvss_gevent.server.outbox import Outbox
from kvss_gevent.server.transport import Transport, plain
from kvss_gevent.settings.config import Config
from kvss_gevent.stores.base import StoreError
from kvss_gevent.stores.disk.disk_store import DiskStore
from kvss_gevent.stores.disk.turn_commit import TRANSACTION_BYTES, TurnCommit

OK, CREATED, FAILED = b"200 OK\n", b"201 CREATED\n", b"500 SERVER_ERROR\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data.kv"


@pytest.fixture
def disk(path: Path) -> DiskStore:
    return DiskStore(path, sync="none", max_bytes=64 << 20)


@pytest.fixture
def store(disk: DiskStore) -> Iterator[TurnCommit]:
    opened = TurnCommit(disk)
    yield opened
    opened.close()


@pytest.fixture
def committed(disk: DiskStore) -> Callable[[bytes], bytes]:
    """Read a key as another process would: without what is not committed."""

    def read(key: bytes) -> bytes:
        with disk.environment.handle.begin() as txn:
            return (txn.get(key) or b"")[9:]

    return read


class Outgoing:
    """An outbox on a store, and what was sent."""

    def __init__(self, store: TurnCommit) -> None:
        self.sent: list[bytes] = []
        self._outbox = Outbox(gevent.get_hub().loop, store.commit)

    def put(self, reply: bytes) -> None:
        self._outbox.put(cast("Connection", None), self._send, reply)

    def send(self, reply: bytes) -> None:
        self._send(self._outbox.send(reply))

    def _send(self, reply: bytes) -> int:
        self.sent.append(reply)
        return len(reply)


def end_turn() -> None:
    gevent.sleep(0.01)


def test_writes_of_one_turn_are_committed_together_at_its_end(
    store: TurnCommit, committed: Callable[[bytes], bytes]
) -> None:
    assert [store.run(PUT, key, b"1\n") for key in (b"a", b"b", b"a")] == [CREATED, CREATED, OK]
    assert store.run(GET, b"a", b"") == b"200 OK 1\n"
    assert committed(b"a") == b""
    end_turn()
    assert (committed(b"a"), committed(b"b")) == (b"1", b"1")


@pytest.mark.parametrize("way", ["put", "send"])
def test_they_are_committed_before_a_reply_is_sent(
    store: TurnCommit, committed: Callable[[bytes], bytes], way: str
) -> None:
    seen = []
    outgoing = Outgoing(store)
    outgoing._send = lambda reply: seen.append(committed(b"a")) or len(reply)  # type: ignore[method-assign, func-returns-value]
    getattr(outgoing, way)(store.run(PUT, b"a", b"1\n"))
    end_turn()
    assert seen == [b"1"]


def test_if_the_commit_fails_every_reply_of_the_turn_is_500(
    store: TurnCommit, disk: DiskStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store.run(PUT, b"a", b"1\n")
    end_turn()
    outgoing = Outgoing(store)
    with monkeypatch.context() as patch:
        patch.setattr(disk.environment, "handle", FailingHandle(disk.environment.handle))
        patch.setattr(disk.environment, "mend", lambda: None)
        outgoing.put(store.run(GET, b"a", b"") + store.run(PUT, b"a", b"2\n"))
        outgoing.put(store.run(GET, b"a", b""))
        outgoing.send(store.run(GET, b"a", b"") + store.run(DEL, b"a", b"\n"))
    assert outgoing.sent == [FAILED * 2, FAILED, FAILED * 2]
    assert [record.message.partition(": ")[2] for record in caplog.records] == ["writes get 500, reads go on: planted"]
    assert store.run(GET, b"a", b"") == b"200 OK 1\n"
    outgoing.put(store.run(PUT, b"a", b"3\n"))
    end_turn()
    assert outgoing.sent[3:] == [OK]
    assert store.run(GET, b"a", b"") == b"200 OK 3\n"


def test_after_a_fault_each_command_has_its_own_transaction(
    store: TurnCommit, disk: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    outgoing = Outgoing(store)
    get, put = (GET, b"a", b""), (PUT, b"a", b"1\n")
    for after in (b"404 NOT_FOUND\n", b"200 OK 1\n"):  # the second time, the log has said it lately and is silent
        with monkeypatch.context() as patch:
            patch.setattr(disk.environment, "handle", FailingHandle(disk.environment.handle))
            patch.setattr(disk.environment, "mend", lambda: None)
            patch.setattr(store, "_apart_until_s", 0.0)
            outgoing.send(store.run(*put) + store.run(*get))
            outgoing.send(store.run(*put) + store.run(*get))
        assert outgoing.sent[-2:] == [FAILED * 2, FAILED + after]
        assert store.run(*put) in {OK, CREATED}


def test_after_a_command_that_fails_the_turn_has_failed(store: TurnCommit, monkeypatch: pytest.MonkeyPatch) -> None:
    outgoing = Outgoing(store)
    outgoing.put(store.run(PUT, b"a", b"1\n"))
    with pytest.raises(StoreError):
        store.run(PUT, b"k" * 600, b"1\n")  # LMDB takes no such key; sessions do not ask for it
    assert store.run(GET, b"a", b"") == b"404 NOT_FOUND\n"
    assert store.run(PUT, b"b", b"1\n") == CREATED
    end_turn()
    assert outgoing.sent == [FAILED]
    assert store.run(GET, b"b", b"") == b"200 OK 1\n"


def test_a_turn_that_writes_much_is_committed_on_the_way(
    store: TurnCommit, committed: Callable[[bytes], bytes]
) -> None:
    value = b"x" * (TRANSACTION_BYTES // 4)
    for number in range(6):
        store.run(PUT, b"%d" % number, value + b"\n")
    assert committed(b"1") == value
    assert committed(b"5") == b""


def test_keys_are_counted_with_those_of_this_turn(store: TurnCommit) -> None:
    store.run(PUT, b"a", b"1\n")
    assert store.count() == 1


def test_where_there_is_little_room_each_command_has_its_own_transaction(
    path: Path, committed: Callable[[bytes], bytes]
) -> None:
    small = TurnCommit(DiskStore(path.with_name("small.kv"), sync="none", max_bytes=1 << 20))
    outgoing = Outgoing(small)
    value = b"x" * 100_000 + b"\n"
    replies = [small.run(PUT, b"%d" % number, value) for number in range(20)]
    assert 5 < replies.index(FAILED) < 10
    outgoing.put(b"".join(replies))
    outgoing.put(small.run(DEL, b"1", b"\n") + small.run(PUT, b"1", value))
    end_turn()
    assert outgoing.sent == [b"".join(replies), b"204 NO_CONTENT\n201 CREATED\n"]
    small.close()


def test_when_it_is_closed_what_was_run_is_committed_and_no_more_is_run(path: Path, disk: DiskStore) -> None:
    store = TurnCommit(disk)
    store.run(PUT, b"a", b"1\n")
    store.close()
    store.close()
    with pytest.raises(StoreError):
        store.run(PUT, b"a", b"2\n")
    with lmdb.open(str(path), subdir=False, max_dbs=1) as file, file.begin() as txn:
        assert (txn.get(b"a") or b"")[9:] == b"1"


class Sends:
    """Notes, at each send of a server, the last key whose PUT is acknowledged by it, and whether it is in the file."""

    def __init__(self, committed: Callable[[bytes], bytes]) -> None:
        self.acknowledged = 0
        self.in_the_file: list[bool] = []
        self._committed = committed

    def __call__(self, sock: SocketType) -> Transport:
        return plain(sock)._replace(send=partial(self._send, sock))

    def _send(self, sock: SocketType, reply: bytes) -> int:
        sent = sock.send(reply)
        self.acknowledged += bytes(reply[:sent]).count(CREATED)
        if self.acknowledged:
            self.in_the_file.append(self._committed(b"%d" % (self.acknowledged - 1)) == b"1")
        return sent


@pytest.mark.parametrize("first", [b"", b"KV/1.0 GET big\n"], ids=["small", "large"])
@pytest.mark.parametrize("number", [1, 3, 600, 3000])
def test_a_server_sends_no_acknowledgement_before_the_commit(
    store: TurnCommit, committed: Callable[[bytes], bytes], first: bytes, number: int
) -> None:
    """Replies take all ways: with those of others, alone, and in slices."""
    store.run(PUT, b"big", b"x" * 20_000 + b"\n")
    sends = Sends(committed)
    listener = gevent.socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    server = KVServer(listener, Service(store), Config())
    server.make_transport = sends
    server.start()
    with gevent.socket.create_connection(listener.getsockname(), 20) as client, gevent.Timeout(20):
        client.sendall(first + b"".join(b"KV/1.0 PUT %d 1\n" % key for key in range(number)))
        received = 0
        while received < number:
            received += client.recv(1 << 16).count(CREATED)
    assert server.drain(20)
    assert sends.acknowledged == number
    assert all(sends.in_the_file)
