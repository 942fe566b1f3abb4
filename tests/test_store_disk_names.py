"""One data file, however it is named: servers that share it share its lock file, and all others are refused."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from store_calls import apply

from kvss_gevent.protocol.wire import Verb
from kvss_gevent.settings.config import Config
from kvss_gevent.stores.base import CannotOpen
from kvss_gevent.stores.disk.disk_store import DiskStore
from kvss_gevent.stores.disk.file.inode_lock import InodeLock
from kvss_gevent.stores.open import open_store

HOLDER = """
import sys
from pathlib import Path
from kvss_gevent.stores.disk.disk_store import DiskStore
store = DiskStore(Path(sys.argv[1]))
print("open", flush=True)
sys.stdin.read()
"""


@contextmanager
def another_server(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Have another process hold the store open."""
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield process
        process.kill()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "data.kv"
    DiskStore(path).close()
    return path


def refusal(path: Path) -> CannotOpen:
    with pytest.raises(CannotOpen) as caught:
        DiskStore(path)
    assert "\n" not in caught.value.cause + caught.value.remedy
    return caught.value


def test_a_hard_link_is_refused_while_another_server_has_the_file_open(path: Path) -> None:
    other = path.with_name("other.kv")
    os.link(path, other)
    with another_server(path):
        assert "open under another name" in refusal(other).cause
    DiskStore(other).close()  # the kernel dropped the locks of the one that was killed


def test_a_lock_file_that_was_removed_as_stale_does_not_let_a_second_server_in(path: Path) -> None:
    with another_server(path):
        Path(f"{path}-lock").unlink()
        assert "its lock file was removed" in refusal(path).cause


def test_a_data_file_that_was_replaced_does_not_let_a_second_server_in(path: Path) -> None:
    with another_server(path):
        path.unlink()
        assert "was replaced while another server has the old file open" in refusal(path).cause


@pytest.mark.parametrize("make_link", [os.symlink, None], ids=["symbolic link", "same path"])
def test_servers_that_name_the_same_file_share_it(path: Path, make_link: object) -> None:
    name = path
    if make_link:
        name = path.with_name("link.kv")
        name.symlink_to(path)
    with another_server(path):
        store = DiskStore(name)
        assert apply(store, [(Verb.PUT, b"key", b"value")], 1 << 20) == [True]
        store.close()
    assert not Path(f"{name}-lock").exists() or name == path


def test_a_link_to_a_file_that_is_not_there_yet_makes_it(tmp_path: Path) -> None:
    link = tmp_path / "link.kv"
    link.symlink_to(tmp_path / "data.kv")
    DiskStore(link).close()
    assert (tmp_path / "data.kv-lock").exists()


@pytest.mark.parametrize("side", ["lock", "checkpoint"])
def test_a_side_file_that_is_a_symbolic_link_is_not_followed(path: Path, tmp_path: Path, side: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    side_file = Path(f"{path}-{side}")
    side_file.unlink(missing_ok=True)
    side_file.symlink_to(victim)
    with pytest.raises(CannotOpen):
        DiskStore(path, sync="none")
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("kind", ["pipe", "device without an end"])
def test_a_pipe_or_device_in_the_place_of_the_checkpoint_is_refused_at_once(path: Path, kind: str) -> None:
    side_file = Path(f"{path}-checkpoint")
    side_file.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(side_file)
    else:
        side_file.symlink_to("/dev/zero")
    with pytest.raises(CannotOpen):
        DiskStore(path, sync="interval")


@pytest.mark.parametrize("sync", ["always", "interval", "none"])
def test_all_files_are_for_their_owner_alone(tmp_path: Path, sync: str) -> None:
    store = DiskStore(tmp_path / "data.kv", sync=sync)
    modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
    store.close()
    assert set(modes.values()) == {0o600}, modes


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in refusal(tmp_path / "pipe").cause


@pytest.mark.parametrize("name", ["x" * 300, "\udcff.kv"], ids=["too long", "not UTF-8"])
def test_a_name_that_no_file_can_have_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    assert refusal(tmp_path / name).remedy


@pytest.mark.parametrize("name", ["loop/data.kv", "loop"])
def test_a_link_to_itself_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert refusal(tmp_path / name).remedy


def test_a_name_that_is_not_utf_8_is_refused_in_plain_words_and_leaves_no_files(tmp_path: Path) -> None:
    with pytest.raises(CannotOpen, match="is not text in UTF-8"):
        open_store(Config(store=f"disk:{tmp_path}/a\udcff"))
    assert not list(tmp_path.iterdir())


def test_a_lock_knows_whether_another_server_has_the_file_open(path: Path) -> None:
    first, second = (InodeLock(path, Path(f"{path}-lock")) for _ in range(2))
    assert not first.is_alone()
    second.close()
    assert first.is_alone()
    with pytest.raises(OSError, match="temporarily unavailable"):
        InodeLock(path, Path(f"{path}-lock"))
    first.close()
