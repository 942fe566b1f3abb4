"""The form of the data file: what is refused as damaged, foreign or newer, and then left alone."""

import os
from pathlib import Path

import lmdb
import pytest
from disk_calls import NO_LIMIT, delete, get, put, refusal
from lmdb.verify import verify
from store_calls import apply

from kvss_gevent.protocol.wire import Verb
from kvss_gevent.stores.base import StoreError
from kvss_gevent.stores.disk.deadlines import NAME as DEADLINES
from kvss_gevent.stores.disk.disk_store import DiskStore
from kvss_gevent.stores.disk.file.data_file import FORMAT, MARKER_KEY


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data.kv"


def edit(path: Path, key: bytes, value: bytes) -> None:
    with lmdb.open(str(path), subdir=False) as env, env.begin(write=True) as txn:
        txn.put(key, value)


def test_the_file_is_lmdb_0_9_with_a_marker_and_records_with_room_for_an_expiry_time(path: Path) -> None:
    store = DiskStore(path)
    put(store, b"key", b"value")
    store.close()
    with lmdb.open(str(path), subdir=False, readonly=True) as env, env.begin() as txn:
        assert env.lib_version()[:2] == (0, 9)
        entries = dict(txn.cursor())
        del entries[DEADLINES]
        assert entries == {MARKER_KEY: b"%d" % FORMAT, b"key": b"\x01" + bytes(8) + b"value"}
    assert verify(str(path), subdir=False) == []
    assert path.stat().st_mode & 0o077 == 0


def test_the_lock_file_has_all_its_blocks(path: Path) -> None:
    # LMDB maps it: to write to a hole of it on a full disk would kill the process.
    store = DiskStore(path)
    lock = Path(f"{path}-lock").stat()
    assert lock.st_blocks * 512 >= lock.st_size >= 64 * 1024
    store.close()


def test_a_newer_format_is_refused(path: Path) -> None:
    DiskStore(path).close()
    edit(path, MARKER_KEY, b"2")
    assert "format 2" in refusal(path)


def test_an_unreadable_marker_is_refused(path: Path) -> None:
    DiskStore(path).close()
    edit(path, MARKER_KEY, b"\xff")
    assert "damaged" in refusal(path)


def test_a_record_of_a_newer_format_is_an_error_of_its_own_request(path: Path) -> None:
    store = DiskStore(path)
    put(store, b"a", b"1")
    store.close()
    edit(path, b"new", b"\x02whatever")
    store = DiskStore(path)
    results = apply(store, [(Verb.GET, b"new", b""), (Verb.GET, b"a", b"")], NO_LIMIT)
    assert isinstance(results[0], StoreError)
    assert results[1] == b"1"
    store.close()


@pytest.mark.parametrize("content", [b"x", b"not a store\n" * 1000, bytes(8192)])
def test_a_file_that_is_no_lmdb_file_is_refused_and_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert "is not a store of kvss-gevent" in refusal(path)
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_another_program_s_lmdb_file_is_refused_and_left_alone(path: Path) -> None:
    edit(path, b"theirs", b"1")
    before = path.read_bytes()
    assert "is not a store of kvss-gevent" in refusal(path)
    assert path.read_bytes() == before


def test_an_lmdb_1_0_file_is_refused(path: Path) -> None:
    lmdb.open(str(path), subdir=False, lib_version=1).close()
    assert str(path) in refusal(path)


def test_a_file_that_was_cut_off_is_refused(path: Path) -> None:
    store = DiskStore(path)
    for number in range(200):
        put(store, b"%d" % number, b"x" * 1000)
    store.close()
    os.truncate(path, path.stat().st_size // 2)
    assert "damaged" in refusal(path)
    os.truncate(path, 5000)
    assert "damaged" in refusal(path) or "not a store" in refusal(path)


def test_a_file_cut_off_behind_its_last_used_page_is_whole(path: Path) -> None:
    store = DiskStore(path)
    for number in range(100):
        put(store, b"%d" % number, b"x" * 10_000)
    for number in range(100):
        delete(store, b"%d" % number)
    for number in range(5):
        put(store, b"a", b"%d" % number)
    store.close()
    os.truncate(path, path.stat().st_size // 2)
    store = DiskStore(path)
    assert get(store, b"a") == b"4"
    for number in range(100):
        put(store, b"%d" % number, b"y" * 10_000)
    assert get(store, b"99") == b"y" * 10_000
    store.close()


def test_a_damaged_header_is_refused(path: Path) -> None:
    store = DiskStore(path)
    put(store, b"a", b"1")
    store.close()
    data = bytearray(path.read_bytes())
    for page in (0, 4096):  # the version number of both meta pages
        data[page + 20 : page + 24] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    assert "damaged" in refusal(path)
