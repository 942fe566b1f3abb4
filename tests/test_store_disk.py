"""The disk store: what it refuses to open, what it does when room or the disk fails, and what is in its file."""

import errno
import logging
import random
import subprocess
import sys
from pathlib import Path

import lmdb
import pytest
from disk_calls import NO_LIMIT, delete, get, put, refusal
from serving import wait_until
from store_calls import apply, results, sent

from kvss_gevent.protocol.wire import Verb
from kvss_gevent.settings.config import Config
from kvss_gevent.stores.base import Command, StoreError
from kvss_gevent.stores.disk.disk_store import DiskStore
from kvss_gevent.stores.open import open_store

MIB = 1 << 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data.kv"


def test_a_full_disk_at_the_start_is_no_damage(path: Path) -> None:
    code = (
        "import resource, sys; from pathlib import Path; from kvss_gevent.stores.base import CannotOpen\n"
        "from kvss_gevent.stores.disk.disk_store import DiskStore; limit = int(sys.argv[2])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))\n"
        "try: DiskStore(Path(sys.argv[1]))\n"
        "except CannotOpen as error: print(error.cause)"
    )
    for limit in (0, 4096, 100_000):
        done = subprocess.run(
            [sys.executable, "-c", code, str(path), str(limit)], capture_output=True, text=True, check=True, timeout=20
        )
        assert ("cannot open" in done.stdout) == (limit < 100_000), done.stdout
        assert "damaged" not in done.stdout


def test_a_file_that_cannot_be_written_is_read(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = DiskStore(path)
    put(store, b"a", b"1")
    store.close()
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write everything
    store = DiskStore(path)
    assert "cannot be written" in caplog.text
    assert get(store, b"a") == b"1"
    assert isinstance(put(store, b"a", b"2"), StoreError)
    assert isinstance(delete(store, b"a"), StoreError)
    assert get(store, b"a") == b"1"
    store.close()


def test_a_directory_and_a_missing_directory_are_refused(path: Path) -> None:
    assert "is a directory" in refusal(path.parent)
    assert "no directory" in refusal(path.parent / "none" / "data.kv")
    assert "too small" in refusal(path, max_bytes=1000)


@pytest.mark.parametrize(
    ("url", "code", "cause"),
    [
        ("disk:", 2, "has no path"),
        ("disk:/nowhere/data.kv", 3, "there is no directory /nowhere"),
        ("memory:x", 2, "followed by 'x'"),
        ("tape:x", 2, "--store is 'tape:x'"),
        ("tape", 2, "--store is 'tape'"),
    ],
)
def test_the_command_ends_with_a_cause_and_a_remedy(url: str, code: int, cause: str) -> None:
    command = [sys.executable, "-m", "kvss_gevent", "serve", "--port", "0", "--store", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout) == (code, "")
    assert cause in done.stderr.splitlines()[0]
    assert len(done.stderr.splitlines()) == 2


def test_without_lmdb_the_command_names_the_extra(path: Path) -> None:
    code = (
        "import sys; sys.modules['lmdb'] = None; from kvss_gevent.cli import main; "
        f"sys.exit(main(['serve', '--port', '0', '--store', 'disk:{path}']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 3
    assert ".[disk]" in done.stderr
    assert len(done.stderr.splitlines()) == 2


def test_a_url_opens_what_it_names(path: Path) -> None:
    store = open_store(Config(store=f"disk:{path}"))
    assert isinstance(store, DiskStore)
    store.close()


def test_past_max_disk_put_is_refused_while_get_and_del_go_on_and_freed_room_is_room(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = DiskStore(path, max_bytes=2 * MIB)
    value = b"x" * 3000
    stored = 0
    while put(store, b"%06d" % stored, value) is True:
        stored += 1
    assert 300 < stored < 700, "a page of 4096 bytes for each, in 2 MiB"
    assert path.stat().st_size <= 2 * MIB
    batch: list[Command] = [
        (Verb.GET, b"000000", b""),
        (Verb.PUT, b"new", b"x" * 50_000),
        (Verb.DEL, b"000000", b""),
        (Verb.GET, b"000000", b""),
        (Verb.DEL, b"000000", b""),
    ]
    results = apply(store, batch, NO_LIMIT)
    assert results[0] == value
    assert isinstance(results[1], StoreError)
    assert results[2:] == [True, None, False]
    assert sum("writes get 500, reads go on: the store is full" in message for message in caplog.messages) == 1
    for number in range(1, stored):
        assert delete(store, b"%06d" % number) is True
    assert store.count() == 0
    again = 0
    while put(store, b"%06d" % again, value) is True:
        again += 1
    assert again >= stored * 0.9
    assert path.stat().st_size <= 2 * MIB
    store.close()


@pytest.mark.parametrize("value_bytes", [10, 100, 900, 3000])
def test_whatever_fills_a_store_can_be_deleted_again(path: Path, value_bytes: int) -> None:
    store = DiskStore(path, sync="none", max_bytes=MIB)
    chance = random.Random(value_bytes)
    keys = []
    refused = 0
    while refused < 30:
        key = b"%032x" % chance.getrandbits(128)
        if put(store, key, b"x" * value_bytes) is True:
            keys.append(key)
        else:
            refused += 1
    chance.shuffle(keys)
    assert all(delete(store, key) is True for key in keys)
    assert store.count() == 0
    store.close()


def test_jobs_that_do_not_fit_together_are_run_apart(path: Path) -> None:
    store = DiskStore(path, max_bytes=MIB)
    jobs: list[tuple[list[Command], int]] = [([(Verb.PUT, b"%d" % n, b"x" * 200_000)], NO_LIMIT) for n in range(8)]
    outcomes = [
        results(job[0], replies)[0] is True
        for job, replies in zip(jobs, store.transact([(sent(batch), limit) for batch, limit in jobs]), strict=True)
    ]
    done = outcomes.count(True)
    assert 2 <= done < 8
    assert outcomes[:done] == [True] * done
    assert store.count() == done
    store.close()


class Breakable:
    """An environment whose next commit or sync can be made to fail, as if the disk had."""

    def __init__(self, inner: lmdb.Environment) -> None:
        self.inner = inner
        self.fault: lmdb.Error | None = None

    def begin(self, **options: bool) -> object:
        if self.fault and options.get("write"):
            raise self.fault
        return self.inner.begin(**options)  # type: ignore[call-overload]

    def sync(self, force: bool) -> None:
        if self.fault:
            raise self.fault
        self.inner.sync(force)

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)


def test_a_failing_disk_refuses_writes_says_so_once_and_recovers(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    store = DiskStore(path)
    put(store, b"a", b"1")
    store.environment.handle = broken = Breakable(store.environment.handle)  # type: ignore[assignment]
    broken.fault = lmdb.DiskError("mdb_txn_commit", errno.ENOSPC)
    for _ in range(3):
        results = apply(store, [(Verb.PUT, b"a", b"2"), (Verb.GET, b"a", b""), (Verb.DEL, b"a", b"")], NO_LIMIT)
        assert isinstance(results[0], StoreError)
        assert results[1] == b"1"
        assert isinstance(results[2], StoreError)
    assert get(store, b"a") == b"1"
    broken.fault = None
    assert put(store, b"a", b"2") is False
    assert [record.message.partition(": ")[2][:10] for record in caplog.records] == ["writes get", "writes wor"]
    store.close()


def test_a_failed_sync_refuses_writes_until_a_sync_succeeds(path: Path) -> None:
    store = DiskStore(path, sync="interval")
    store.environment.handle = broken = Breakable(store.environment.handle)  # type: ignore[assignment]
    store.environment._checkpoints._environment = broken
    assert put(store, b"a", b"1") is True
    broken.fault = lmdb.Error("mdb_env_sync", errno.EIO)
    store.environment.sync()
    broken.fault = None
    assert isinstance(put(store, b"a", b"2"), StoreError)
    assert get(store, b"a") == b"1"
    store.environment.sync()
    assert put(store, b"a", b"2") is False
    store.close()


def test_an_environment_that_lmdb_gave_up_is_opened_again(path: Path) -> None:
    store = DiskStore(path)
    put(store, b"a", b"1")

    class Lost(Breakable):
        def begin(self, **_: bool) -> object:
            raise lmdb.PanicError("mdb_txn_begin")

    store.environment.handle = Lost(store.environment.handle)  # type: ignore[assignment]
    with pytest.raises(StoreError):
        get(store, b"a")
    assert isinstance(put(store, b"a", b"2"), StoreError)
    assert put(store, b"a", b"2") is False
    assert get(store, b"a") == b"2"
    store.close()


def test_an_environment_that_cannot_be_opened_again_is_tried_with_each_write(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = DiskStore(path)
    put(store, b"a", b"1")
    store.environment.handle.close()
    away = path.rename(path.with_suffix(".away"))
    path.write_bytes(b"something else")
    for _ in range(3):
        assert isinstance(put(store, b"a", b"2"), StoreError)
        with pytest.raises(StoreError):
            get(store, b"a")
    assert len(caplog.messages) == 2
    away.rename(path)
    assert isinstance(put(store, b"a", b"2"), StoreError), "this one finds the file again"
    assert put(store, b"a", b"2") is False
    store.close()


def test_the_readers_of_killed_processes_are_cleared(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvss_gevent.stores.disk.environment.KEEP_INTERVAL_S", 0.02)
    monkeypatch.setattr("kvss_gevent.stores.disk.environment.READER_CHECK_INTERVAL_S", 0.02)
    store = DiskStore(path)
    code = (
        "import lmdb, sys, time; env = lmdb.open(sys.argv[1], subdir=False); txn = env.begin(); "
        "txn.get(b'a'); print('reading', flush=True); time.sleep(20)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        reader.stdout.readline()
        assert str(reader.pid) in store.environment.handle.readers()
        reader.kill()
    wait_until(lambda: str(reader.pid) not in store.environment.handle.readers())
    store.close()


def test_two_processes_see_each_other_s_writes_at_once(path: Path) -> None:
    store = DiskStore(path)
    put(store, b"a", b"1")
    code = (
        "import sys; from pathlib import Path; from kvss_gevent.stores.disk.disk_store import DiskStore; "
        "from kvss_gevent.protocol.wire import Verb; store = DiskStore(Path(sys.argv[1])); "
        "print(store.apply([(Verb.GET, b'a', b''), (Verb.PUT, b'a', b'2\\n')], 99)); store.close()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True, timeout=20
    )
    assert done.stdout == "[b'200 OK 1\\n', b'200 OK\\n']\n"
    assert get(store, b"a") == b"2"
    store.close()
