"""The file of users and `kvss user`: what it holds, who may read it, and that no password is in it."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pexpect
import pytest
from in_process import kvss

from kvss_gevent.core import user_file as users
from kvss_gevent.core.password_hash import hash_password
from kvss_gevent.core.user_file import Role, User, UsersError


def kvss_user(*words: str, password: str | bytes = "") -> subprocess.CompletedProcess[str]:
    return kvss("user", *words, stdin=password)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "users.txt"


def test_a_user_is_added_changed_listed_and_removed(path: Path) -> None:
    assert kvss_user("add", str(path), "alice", "--role", "write", password="first one\n").returncode == 0
    assert kvss_user("add", str(path), "bob", password="second\n").returncode == 0
    assert kvss_user("list", str(path)).stdout == "alice write\nbob read\n"
    known = users.read_users(path)
    assert known.authenticate(b"alice", b"first one") == users.list_users(path)[0]
    assert known.authenticate(b"alice", b"first") is None
    assert kvss_user("passwd", str(path), "alice", password="third\n").returncode == 0
    known = users.read_users(path)
    assert known.authenticate(b"alice", b"first one") is None
    assert known.authenticate(b"alice", b"third").role is Role.WRITE  # type: ignore[union-attr]
    assert kvss_user("remove", str(path), "alice").returncode == 0
    assert kvss_user("list", str(path)).stdout == "bob read\n"


def test_the_file_is_for_its_owner_alone_and_holds_no_password(path: Path) -> None:
    kvss_user("add", str(path), "alice", password="swordfish\n")
    assert path.stat().st_mode & 0o777 == 0o600
    assert "swordfish" not in path.read_text()
    first = path.read_text()
    kvss_user("add", str(path), "alice", password="swordfish\n")
    assert path.read_text() != first, "a new salt each time"


def test_a_change_leaves_the_file_to_those_who_could_read_it(path: Path) -> None:
    """A server that runs as another user reads it again on SIGHUP."""
    kvss_user("add", str(path), "alice", password="x\n")
    path.chmod(0o640)
    owner = (65534, 65534) if os.getuid() == 0 else (os.getuid(), os.getgroups()[0])
    os.chown(path, *owner)
    for action in (["add", str(path), "bob"], ["passwd", str(path), "bob"], ["remove", str(path), "bob"]):
        assert kvss_user(*action, password="y\n").returncode == 0
        found = path.stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (*owner, 0o640), action


@pytest.mark.parametrize("action", ["add", "passwd", "remove", "list"])
def test_a_name_that_no_file_can_have_is_exit_code_2(action: str) -> None:
    done = kvss_user(action, "x" * 300, *(["alice"] if action != "list" else []), password="x\n")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 2)
    assert "File name too long" in done.stderr


def test_a_terminal_is_asked_twice_and_shows_nothing(path: Path) -> None:
    command = f"{sys.executable} -m kvss_gevent user add {path} alice"
    shell = pexpect.spawn(command, encoding="utf-8", timeout=20)
    shell.expect("Password for alice: ")
    shell.sendline("swordfish")
    shell.expect("Again: ")
    shell.sendline("another")
    shell.expect(pexpect.EOF)
    shell.close()
    assert shell.exitstatus == 2
    assert "not the same" in shell.before
    assert "swordfish" not in shell.before
    assert not path.exists()


@pytest.mark.parametrize("action", ["passwd", "remove"])
def test_a_user_that_is_not_there_is_exit_code_1(path: Path, action: str) -> None:
    kvss_user("add", str(path), "alice", password="x\n")
    done = kvss_user(action, str(path), "nobody", password="x\n")
    assert done.returncode == 1
    assert "has no user nobody" in done.stderr


@pytest.mark.parametrize(
    ("name", "password", "said"),
    [
        ("", "x", "a name has 1 to 64 bytes"),
        ("a" * 65, "x", "a name has 1 to 64 bytes"),
        ("a b", "x", "not contain spaces"),
        ("#alice", "x", "not begin with #"),
        ("alice", "", "a password has 1 to 1024 bytes"),
        ("alice", "x" * 1025, "a password has 1 to 1024 bytes"),
        ("alice", b"\xff", "must be text in UTF-8"),
    ],
)
def test_what_auth_cannot_carry_is_refused(path: Path, name: str, password: str | bytes, said: str) -> None:
    done = kvss_user("add", str(path), name, password=password)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.parametrize(
    "line",
    [
        "alice",
        "alice write",
        "alice king scrypt:16384:8:1:AAAA:AAAA",
        "alice read scrypt:1073741824:8:1:AAAA:" + "A" * 43 + "=",
        "alice read scrypt:16384:-8:-1:AAAA:" + "A" * 43 + "=",
        "alice read scrypt:16384:0:1:AAAA:" + "A" * 43 + "=",
        "alice read scrypt:65536:1:1:AAAA:" + "A" * 43 + "=",
    ],
)
def test_a_file_that_is_none_of_users_is_refused_with_the_line(path: Path, line: str) -> None:
    path.write_text(f"# a comment\n\n{line}\n")
    with pytest.raises(UsersError, match="line 3"):
        users.read_users(path)


def test_a_change_keeps_comments_and_other_lines(path: Path) -> None:
    kvss_user("add", str(path), "alice", password="x")
    path.write_text(f"# the first group\n{path.read_text()}\n# the second group\n")
    kept = path.read_text()
    kvss_user("add", str(path), "bob", password="x")
    assert path.read_text().startswith(kept)
    kvss_user("remove", str(path), "bob")
    assert path.read_text() == kept


def test_changes_at_the_same_time_lose_nobody(path: Path) -> None:
    secret = hash_password(b"x")

    def add(number: int) -> None:
        name = f"user{number}"
        users.change_users(path, name, User(name, Role.READ, secret))

    threads = [threading.Thread(target=add, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(users.list_users(path)) == 20


@pytest.mark.timing
def test_a_name_that_is_not_known_takes_as_long_as_a_wrong_password(path: Path) -> None:
    kvss_user("add", str(path), "alice", password="x\n")
    known = users.read_users(path)

    def seconds(name: bytes) -> float:
        taken = []
        for _ in range(5):
            started_s = time.thread_time()
            assert known.authenticate(name, b"wrong") is None
            taken.append(time.thread_time() - started_s)
        return min(taken)

    assert seconds(b"nobody") == pytest.approx(seconds(b"alice"), rel=0.3)


def test_a_pipe_that_nobody_writes_into_is_refused_at_once(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(UsersError, match="not a regular file"):
        users.read_users(path)


@pytest.mark.parametrize("kind", ["hard link", "symbolic link", "file of another mode"])
def test_what_lies_where_the_new_file_is_written_is_not_used(path: Path, kind: str) -> None:
    victim, planted = path.with_name("victim"), Path(f"{path}.new")
    victim.write_text("precious")
    victim.chmod(0o666)
    match kind:
        case "hard link":
            planted.hardlink_to(victim)
        case "symbolic link":
            planted.symlink_to(victim)
        case _:
            planted.write_text("")
            planted.chmod(0o666)
    users.change_users(path, "alice", User("alice", Role.READ, hash_password(b"x")))
    assert victim.read_text() == "precious"
    assert not path.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o600
    assert [user.name for user in users.list_users(path)] == ["alice"]
    assert not planted.exists()
