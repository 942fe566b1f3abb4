"""The disk store where the disk is really full, and where its file is removed, replaced or cut off under it."""

import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from serving import wait_until
from store_calls import apply

from kvss_gevent.protocol.wire import Verb
from kvss_gevent.stores.base import StoreError
from kvss_gevent.stores.disk.disk_store import DiskStore

FILL = """
import json, sys, time
from pathlib import Path
from kvss_gevent.protocol.wire import Verb
from kvss_gevent.stores.disk.disk_store import DiskStore
store = DiskStore(Path(sys.argv[1]) / "data.kv", sync=sys.argv[2])
ballast = Path(sys.argv[1]) / "ballast"
run = lambda verb, number, value=b"": store.apply([(verb, b"%06d" % number, value + b"\\n")], 1 << 20)[0][:3]
value = b"x" * 3000
stored = 0
while run(Verb.PUT, stored, value) == b"201":
    stored += 1
seen = {"stored": stored, "read": run(Verb.GET, 0) == b"200"}
if sys.argv[2] == "interval":
    time.sleep(1.5)  # a checkpoint is due while the disk is full
seen["deleted"] = [run(Verb.DEL, number) == b"204" for number in range(stored)].count(True)
if sys.argv[2] == "interval":
    time.sleep(1.5)
again = 0
while again < stored and run(Verb.PUT, again, value) == b"201":
    again += 1
seen["again"] = again
store.close()
store = DiskStore(Path(sys.argv[1]) / "data.kv", sync=sys.argv[2])
seen["after"] = store.count()
store.close()
print(json.dumps(seen))
"""


EXPIRE = """
import json, sys
from pathlib import Path
from kvss_gevent.protocol.wire import Verb
from kvss_gevent.stores.disk.disk_store import DiskStore
now_ms = 0
store = DiskStore(Path(sys.argv[1]) / "data.kv", sync=sys.argv[2], clock=lambda: now_ms)
run = lambda verb, number, value=b"": store.apply([(verb, b"%d" % number, value + b"\\n")], 1 << 20)[0][:3]
value = b"x" * 1000
stored = 0
while run(Verb.PUTEX, stored, (b"5 " if stored < 120 else b"6 ") + value) == b"201":
    stored += 1
for _ in range(2):  # the first keys to end leave pages that are only partly used
    now_ms += 5500
    for _ in range(40):
        run(Verb.DEL, stored)
again = [run(Verb.PUT, number, value) for number in range(stored // 2)].count(b"201")
print(json.dumps({"stored": stored, "expired": store.expired_keys, "again": again}))
store.close()
"""


NEW = """
import json, os, sys
from pathlib import Path
from kvss_gevent.protocol.wire import Verb
from kvss_gevent.stores.base import CannotOpen
from kvss_gevent.stores.disk.disk_store import DiskStore
from kvss_gevent.stores.disk.file import checkpoint
checkpoint.LOCK_S = 0.05
folder, refused = Path(sys.argv[1]), 0
for free in range(0, 400 << 10, 4 << 10):
    room = os.statvfs(folder)
    with (folder / "ballast").open("wb") as ballast:
        os.posix_fallocate(ballast.fileno(), 0, room.f_bfree * room.f_frsize - free or 1)
    try:
        DiskStore(folder / "data", sys.argv[2]).close()
    except CannotOpen as error:
        assert "cannot open" in str(error), error
        refused += 1
    (folder / "ballast").unlink()
    store = DiskStore(folder / "data", sys.argv[2])
    assert store.apply([(Verb.PUT, b"key", b"value\\n")], 99) == [b"201 CREATED\\n"], free
    store.close()
    for file in folder.iterdir():
        file.unlink()
print(json.dumps({"refused": refused}))
"""


def on_a_small_disk(tmp_path: Path, script: str, sync: str, mib: int, blocks: str = "unlimited") -> dict[str, Any]:
    """Run a script on a file system in a mount namespace of its own: it needs no rights and ends with the process."""
    (tmp_path / "fill.py").write_text(script)
    shell = f"mount -t tmpfs -o size={mib}M none mnt && ulimit -f {blocks} && exec {sys.executable} fill.py mnt {sync}"
    (tmp_path / "mnt").mkdir()
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", shell],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


@pytest.mark.parametrize("sync", ["always", "interval", "none"])
@pytest.mark.parametrize(("mib", "blocks"), [(3, "unlimited"), (30, "6000")], ids=["full disk", "ulimit -f"])
def test_where_there_is_no_room_deleting_makes_room(tmp_path: Path, sync: str, mib: int, blocks: str) -> None:
    seen = on_a_small_disk(tmp_path, FILL, sync, mib, blocks)
    assert seen["stored"] > 300
    assert seen["read"]
    assert seen["deleted"] == seen["stored"]
    assert seen["again"] >= seen["stored"] * 0.8
    assert seen["after"] == seen["again"]


@pytest.mark.parametrize("sync", ["always", "none"])
@pytest.mark.parametrize("mib", [2, 3])
def test_a_full_disk_has_room_again_when_its_keys_have_ended(tmp_path: Path, sync: str, mib: int) -> None:
    seen = on_a_small_disk(tmp_path, EXPIRE, sync, mib)
    assert seen["stored"] > 300
    assert seen["expired"] == seen["stored"]
    assert seen["again"] == seen["stored"] // 2


@pytest.mark.parametrize("sync", ["always", "interval", "none"])
def test_a_new_store_that_found_no_room_can_be_opened_once_there_is_some(tmp_path: Path, sync: str) -> None:
    assert on_a_small_disk(tmp_path, NEW, sync, 2)["refused"] > 20


def test_a_file_that_was_cut_off_and_has_grown_again_takes_no_writes(tmp_path: Path) -> None:
    """Its size does not tell, but there are holes in it."""
    path = tmp_path / "data.kv"
    store = DiskStore(path)
    put = [(Verb.PUT, b"key", b"value\n")]
    assert store.apply(put, 99) == [b"201 CREATED\n"]
    content = path.read_bytes()
    for part in (bytes(len(content) - 8192), content[8192:]):
        with path.open("r+b") as file:
            file.seek(8192)
            file.write(part)
        assert store.apply(put, 99) == [b"500 SERVER_ERROR\n"]
    assert "is damaged" in store.environment.lost
    store.close()


CUT_OFF = """
import os, sys
from pathlib import Path
from kvss_gevent.protocol.wire import Verb
from kvss_gevent.stores.base import StoreError
from kvss_gevent.stores.disk.disk_store import DiskStore
path = Path(sys.argv[1])
store = DiskStore(path)
store.apply([(Verb.PUTEX, b"%d" % number, b"60 " + b"x" * 1000 + b"\\n") for number in range(500)], 1 << 20)
store.close()
store = DiskStore(path)
os.truncate(path, int(sys.argv[2]))
assert store.apply([(Verb.PUT, b"key", b"value\\n")], 1 << 20) == [b"500 SERVER_ERROR\\n"]
assert not store.has_ended()
try:
    store.count()
except StoreError as error:
    print(error)
store.close()
"""


@pytest.mark.parametrize("size", [0, 5000, 8192, 100_000])
def test_what_a_server_does_by_itself_does_not_touch_a_file_that_is_cut_off(tmp_path: Path, size: int) -> None:
    path = tmp_path / "data.kv"
    done = subprocess.run(
        [sys.executable, "-c", CUT_OFF, path, str(size)], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "was cut off" in done.stdout


def refused(store: DiskStore) -> bool:
    return isinstance(apply(store, [(Verb.PUT, b"late", b"value")], 1 << 20)[0], StoreError)


@pytest.mark.parametrize(
    ("what", "said"),
    [("removed", "was removed"), ("replaced", "was replaced"), ("cut off", "was cut off at 8192 bytes")],
)
def test_a_file_that_is_not_there_any_more_takes_no_writes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, what: str, said: str
) -> None:
    path = tmp_path / "data.kv"
    store = DiskStore(path)
    apply(store, [(Verb.PUT, b"key", b"x" * 100_000)], 1 << 20)
    if what == "removed":
        path.unlink()
    elif what == "replaced":
        (tmp_path / "other").write_bytes(path.read_bytes())
        (tmp_path / "other").replace(path)
    else:
        os.truncate(path, 8192)
    wait_until(lambda: store.environment.lost)  # before that, a write could touch what was cut off
    assert refused(store)
    assert [record.levelno for record in caplog.records if said in record.message] == [logging.ERROR]
    if what == "cut off":
        with pytest.raises(StoreError, match="cut off"):
            apply(store, [(Verb.GET, b"key", b"")], 1 << 20)
    else:
        assert apply(store, [(Verb.GET, b"key", b"")], 1 << 20) == [b"x" * 100_000]
    store.close()


@pytest.mark.timing
def test_a_removed_file_takes_no_writes_after_a_second(tmp_path: Path) -> None:
    path = tmp_path / "data.kv"
    store = DiskStore(path)
    path.unlink()
    started_s = time.monotonic()
    wait_until(lambda: refused(store))
    assert time.monotonic() - started_s < 1
    store.close()


def test_after_a_restart_a_removed_store_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "data.kv"
    store = DiskStore(path)
    path.unlink()
    wait_until(lambda: refused(store))
    store.close()
    store = DiskStore(path)
    assert not refused(store)
    store.close()
