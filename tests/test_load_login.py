"""The load tester on a server that has users: each connection logs in first (rule 12)."""

from collections.abc import Iterator

import pytest
from load_drive import Bench
from serving import Served, serving

from kvss_gevent.core.password_hash import hash_password
from kvss_gevent.core.user_file import Role, User, change_users
from kvss_gevent.loadtest.engine import preflight
from kvss_gevent.loadtest.load_options import read_options
from kvss_gevent.settings.fail import Fail

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    file = tmp_path_factory.mktemp("users") / "users.txt"
    change_users(file, "ann", User("ann", Role.WRITE, hash_password(b"two words")))
    with serving("--users", str(file)) as server:
        yield server


def test_keys_are_stored_and_users_work_after_a_login(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVSS_PASSWORD", "two words")
    options = read_options({"user": "ann", "keys": "20"})
    address = "127.0.0.1", server.port
    preflight.check_server(address, options)
    preflight.load_keys(address, options, options.value_size, "0a1b2c3d")
    one = Bench(server.port, "1:0:0", user="ann", keys="20", verify="off")
    one.work(5)
    tally = one.finish()
    assert (tally.failures, tally.connect_errors) == ({}, {})
    assert tally.due > 0


def test_without_the_right_login_the_run_does_not_begin(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    address = "127.0.0.1", server.port
    with pytest.raises(Fail, match="asks for a login") as told:
        preflight.check_server(address, read_options({}))
    assert "--kv-user" in told.value.remedy
    monkeypatch.setenv("KVSS_PASSWORD", "another")
    with pytest.raises(Fail, match="the login was refused: '401 UNAUTHORIZED'"):
        preflight.check_server(address, read_options({"user": "ann"}))


@pytest.mark.parametrize(("user", "password"), [("ann", None), ("ann", ""), ("ann", "two\nlines"), ("an n", "x")])
def test_what_auth_cannot_carry_is_refused(monkeypatch: pytest.MonkeyPatch, user: str, password: str | None) -> None:
    monkeypatch.delenv("KVSS_PASSWORD", raising=False)
    if password is not None:
        monkeypatch.setenv("KVSS_PASSWORD", password)
    with pytest.raises(ValueError, match="--kv-user"):
        read_options({"user": user})
