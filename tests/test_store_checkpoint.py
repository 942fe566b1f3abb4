"""Checkpoints: when the file beside the store is there, and what opening it after a new start of the kernel does."""

import errno
import os
import shutil
import threading
from pathlib import Path

import pytest
from store_calls import Result, apply

from kvss_gevent.protocol.wire import Verb
from kvss_gevent.stores.base import CannotOpen
from kvss_gevent.stores.disk.disk_store import DiskStore
from kvss_gevent.stores.disk.file import checkpoint
from kvss_gevent.stores.disk.file.checkpoint import mark_file, recover


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data.kv"


@pytest.fixture
def reboot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every boot identity from now on another one; call the fixture by name in the test."""
    monkeypatch.setattr("kvss_gevent.stores.disk.file.checkpoint.boot_id", lambda: b"another")


def put(store: DiskStore, key: bytes, value: bytes) -> Result:
    return apply(store, [(Verb.PUT, key, value)], 99)[0]


def get(store: DiskStore, key: bytes) -> Result:
    return apply(store, [(Verb.GET, key, b"")], 99)[0]


def abandoned(path: Path, sync: str) -> Path:
    """Return a copy of a store as a killed server leaves it: a is synced, b is not."""
    store = DiskStore(path, sync)
    put(store, b"a", b"1")
    store.environment.sync()
    put(store, b"b", b"1")
    copy = path.with_name("copy.kv")
    shutil.copyfile(path, copy)
    shutil.copyfile(mark_file(path), mark_file(copy))
    store.close()
    return copy


@pytest.mark.parametrize("sync", ["interval", "none"])
def test_the_file_beside_the_store_is_there_while_writes_may_be_unsynced(path: Path, sync: str) -> None:
    store = DiskStore(path, sync)
    assert mark_file(path).exists()
    store.close()
    assert sorted(file.name for file in path.parent.iterdir()) == ["data.kv", "data.kv-lock"]


def test_with_sync_always_there_is_none(path: Path) -> None:
    store = DiskStore(path)
    put(store, b"a", b"1")
    assert not mark_file(path).exists()
    store.close()


@pytest.mark.parametrize("sync", ["interval", "none"])
@pytest.mark.parametrize("then", ["always", "interval", "none"])
def test_after_a_kill_everything_is_there(path: Path, sync: str, then: str) -> None:
    copy = abandoned(path, sync)
    store = DiskStore(copy, then)
    assert (get(store, b"a"), get(store, b"b")) == (b"1", b"1")
    assert mark_file(copy).exists() == (then != "always")
    store.close()


@pytest.mark.parametrize("then", ["always", "interval", "none"])
def test_after_a_power_loss_the_store_is_as_it_was_at_the_last_sync(
    path: Path, then: str, request: pytest.FixtureRequest
) -> None:
    copy = abandoned(path, "interval")
    request.getfixturevalue("reboot")
    store = DiskStore(copy, then)
    assert (get(store, b"a"), get(store, b"b")) == (b"1", None)
    assert put(store, b"b", b"2") is True
    store.close()
    recover(copy)
    store = DiskStore(copy)
    assert get(store, b"b") == b"2", "it goes back once, not each time it is opened"
    store.close()


def test_going_back_is_done_once(path: Path, request: pytest.FixtureRequest) -> None:
    copy = abandoned(path, "interval")
    request.getfixturevalue("reboot")
    recover(copy)
    assert not mark_file(copy).exists()


def test_without_syncs_a_file_that_a_power_loss_spared_is_used(path: Path, request: pytest.FixtureRequest) -> None:
    copy = abandoned(path, "none")
    request.getfixturevalue("reboot")
    store = DiskStore(copy)
    assert get(store, b"b") == b"1"
    store.close()


def test_without_syncs_a_file_that_a_power_loss_damaged_is_refused(path: Path, request: pytest.FixtureRequest) -> None:
    copy = abandoned(path, "none")
    with copy.open("r+b") as file:
        file.seek(8192)
        file.write(bytes(4096 * 4))
    request.getfixturevalue("reboot")
    for _ in range(2):
        with pytest.raises(CannotOpen, match="was damaged when the machine went down"):
            DiskStore(copy)


@pytest.mark.parametrize("content", [b"", bytes(2 * checkpoint.SLOT_BYTES)])
@pytest.mark.parametrize("sync", ["always", "interval", "none"])
def test_a_server_that_ended_before_its_first_checkpoint_was_made_leaves_a_store_that_can_be_used(
    path: Path, monkeypatch: pytest.MonkeyPatch, sync: str, content: bytes
) -> None:
    """Such as on a full disk: it had written nothing without a sync."""
    monkeypatch.setattr(checkpoint, "LOCK_S", 0.1)
    store = DiskStore(path)
    put(store, b"a", b"1")
    store.close()
    mark_file(path).write_bytes(content)
    store = DiskStore(path, sync)
    assert get(store, b"a") == b"1"
    store.close()
    assert not mark_file(path).exists()


@pytest.mark.parametrize("sync", ["interval", "none"])
def test_where_no_checkpoint_can_be_made_the_store_is_refused_and_can_be_opened_later(
    path: Path, monkeypatch: pytest.MonkeyPatch, sync: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    DiskStore(path).close()
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(CannotOpen, match="No space left on device"):
        DiskStore(path, sync)
    monkeypatch.undo()
    monkeypatch.setattr(checkpoint, "LOCK_S", 0.1)
    DiskStore(path, sync).close()


@pytest.mark.parametrize("content", [b"kvss-gevent checkpoint 1\n00000000\nboot\n", b"kvss-gevent checkpoint 2\n"])
def test_a_checkpoint_that_cannot_be_read_is_refused(path: Path, content: bytes) -> None:
    copy = abandoned(path, "interval")
    mark_file(copy).write_bytes(content)
    with pytest.raises(CannotOpen, match="cannot be read"):
        DiskStore(copy)


def test_a_checkpoint_that_another_server_is_just_making_is_waited_for(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "LOCK_S", 30.0)
    copy = abandoned(path, "none")
    whole = mark_file(copy).rename(copy.with_name("whole"))
    mark_file(copy).write_bytes(b"")
    making = threading.Timer(0.2, whole.replace, [mark_file(copy)])
    making.start()
    DiskStore(copy, "none").close()
    making.join()


def test_a_full_store_lets_go_of_the_checkpoint_for_room(path: Path) -> None:
    store = DiskStore(path, "interval", max_bytes=1 << 20)
    for number in range(300):
        assert put(store, b"a", b"%d" % number + b"x" * 100_000) in (True, False), number
    store.close()
