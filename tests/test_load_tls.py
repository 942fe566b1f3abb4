"""The load tester on a server with TLS (rule 13), from the options to the bytes."""

import socket
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest
import trustme
from load_drive import Bench
from load_runs import run
from serving import Served, serving

from kvss_gevent.core.password_hash import hash_password
from kvss_gevent.core.user_file import Role, User, change_users
from kvss_gevent.loadtest.engine import preflight
from kvss_gevent.loadtest.engine.load_connection import ConnectionLost, LoadConnection, TlsRefused, connected
from kvss_gevent.loadtest.load_options import read_options
from kvss_gevent.measure.launch import free_port
from kvss_gevent.settings.fail import Fail

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write ca.pem, and beside it both.pem of a server that is called 127.0.0.1, but not localhost, and users.txt."""
    folder = tmp_path_factory.mktemp("certs")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(folder / "both.pem"))
    change_users(folder / "users.txt", "ann", User("ann", Role.WRITE, hash_password(b"two words")))
    return folder / "ca.pem"


@pytest.fixture(scope="module")
def server(ca: Path) -> Iterator[Served]:
    both = str(ca.with_name("both.pem"))
    with serving("--tls-cert", both, "--tls-key", both, "--users", str(ca.with_name("users.txt"))) as server:
        yield server


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVSS_PASSWORD", "two words")


def test_workers_of_locust_log_in_over_tls(server: Served, ca: Path, tmp_path: Path) -> None:
    master = str(free_port())
    ports = ("--processes", "2", "--master-bind-port", master, "--master-port", master)
    load = ("-u", "2", "-r", "2", "-t", "1", *ports, "--kv-keys", "20", "--kv-warmup", "100ms")
    done = run(server.port, *load, "--kv-user", "ann", "--kv-tls", "--kv-ca", str(ca), out=tmp_path)
    assert done.code == 0, done.err
    assert done.results["requests"]["answered"] > 0
    assert (done.results["failures"], done.results["connect_errors"]) == ({}, {})


@pytest.mark.parametrize(("depth", "size"), [("1", "1000"), ("64", "60000")])
def test_no_byte_waits_inside_whatever_the_sizes(server: Served, ca: Path, depth: str, size: str) -> None:
    options = {"user": "ann", "ca": str(ca), "keys": "50", "value_size": size, "depth": depth, "timeout": "5s"}
    preflight.load_keys(("127.0.0.1", server.port), read_options(options), read_options(options).value_size, "0a1b2c3d")
    one = Bench(server.port, "1:1:0", **options)
    one.work(5)
    tally = one.finish()
    assert (tally.failures, tally.connect_errors) == ({}, {})
    assert tally.due >= 5 * int(depth)


def test_who_cannot_have_tls_is_told_before_the_run(server: Served, ca: Path, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger.pem"
    trustme.CA().cert_pem.write_to_path(str(stranger))

    def refusal(host: str, port: int, **texts: str) -> tuple[str, str]:
        with pytest.raises(Fail) as told:
            preflight.check_server((host, port), read_options({"user": "ann", **texts}))
        return told.value.cause.removeprefix(f"{host}:{port}: TLS failed: "), told.value.remedy

    for host, trusted, why in (
        ("127.0.0.1", stranger, "its certificate is not trusted: "),
        ("localhost", ca, "its certificate is not trusted: Hostname mismatch"),
    ):
        cause, remedy = refusal(host, server.port, ca=str(trusted))
        assert cause.startswith(why)
        assert "--kv-ca FILE" in remedy
        assert "--host" in remedy
    preflight.check_server(("localhost", server.port), read_options({"user": "ann", "insecure": "on"}))
    assert "--kv-tls" in refusal("127.0.0.1", server.port)[1]
    with serving() as plain:
        cause, remedy = refusal("127.0.0.1", plain.port, tls="on")
    assert cause == "it does not speak TLS"
    assert "Leave out --kv-tls" in remedy


def test_a_handshake_without_an_answer_ends_in_time(ca: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(TlsRefused, match=r"no answer within 0\.2 s"):
        LoadConnection(silent.getsockname(), 0.2, read_options({"ca": str(ca)}).transport)


def test_a_wait_over_tls_is_ended_by_another_greenlet_as_without_tls(server: Served, ca: Path) -> None:
    connection = connected(("127.0.0.1", server.port), 5, read_options({"user": "ann", "ca": str(ca)}))
    gevent.spawn(connection.expire)
    with gevent.Timeout(20), pytest.raises(ConnectionLost, match=r"^no reply in time$"):
        connection.reply()
    connection.close()


def test_a_file_without_authorities_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    with pytest.raises(ValueError, match=r"--kv-ca: cannot use the authorities in .*empty\.pem: it holds no cert"):
        read_options({"ca": str(tmp_path / "empty.pem")})
