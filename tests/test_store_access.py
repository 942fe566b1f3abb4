"""Stores on a Valkey or Redis server that wants a password, or TLS: reached, refused in one line, nothing shown."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from valkeys import Valkey, need_server, running, valkey, wait_until

from kvss_gevent.cli import main
from kvss_gevent.measure.launch import free_port
from kvss_gevent.protocol.wire import GET, PUT
from kvss_gevent.settings.config import Config
from kvss_gevent.stores.base import CannotOpen, Store, StoreError
from kvss_gevent.stores.open import open_store
from kvss_gevent.stores.remote.greenlet_store import for_greenlets

pytestmark = pytest.mark.server

PASSWORD = "sesame pw"
LARGE = b"x" * 3_000_000 + b"\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    need_server()
    with valkey(tmp_path_factory.mktemp("valkey")) as running_server:
        running_server.ask("ACL", "SETUSER", "alice", "on", f">{PASSWORD}", "~*", "+@all")
        running_server.ask("ACL", "SETUSER", "bob", "on", f">{PASSWORD}", "~*", "+get")
        running_server.ask("CONFIG", "SET", "requirepass", "boss")
        yield running_server


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KVSS_STORE_PASSWORD", raising=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text(f"{PASSWORD}\nanother line\n")
    return path


def works(store: Store) -> None:
    """Put and get on threads, then on greenlets, also what a TLS record does not hold and the kernel does not take."""
    try:
        store.apply([(PUT, b"a", b"1\n"), (PUT, b"large", LARGE)], 1 << 20)
        assert store.apply([(GET, b"a", b"")], 1 << 20) == [b"200 OK 1\n"]
        store = for_greenlets(store)
        assert store.apply([(PUT, b"large", LARGE), (PUT, b"a", b"2\n")], 1 << 20) == [b"200 OK\n", b"200 OK\n"]
        assert store.apply([(GET, b"large", b"")], 1 << 20) == [b"200 OK " + LARGE]
        assert store.apply([(GET, b"a", b"")], 1 << 20) == [b"200 OK 2\n"]
        assert store.count() == 2
    finally:
        store.close()


def test_the_password_of_a_server_is_taken_from_the_environment(
    server: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KVSS_STORE_PASSWORD", "boss")
    works(open_store(Config(store=f"redis://127.0.0.1:{server.port}/1")))


def test_the_password_of_a_user_is_taken_from_a_file(server: Valkey, file: Path) -> None:
    works(open_store(Config(store=f"redis://alice@127.0.0.1:{server.port}/2", store_password_file=str(file))))


def test_the_file_is_read_again_when_a_connection_is_made(server: Valkey, file: Path) -> None:
    store = open_store(Config(store=f"redis://alice@127.0.0.1:{server.port}/2", store_password_file=str(file)))
    try:
        as_boss(server, "ACL", "SETUSER", "alice", "resetpass", ">new")
        file.write_text("new\n")
        as_boss(server, "CLIENT", "KILL", "USER", "alice")
        wait_until(lambda: not fault_of(store), "the new password was not used")
        file.unlink()
        as_boss(server, "CLIENT", "KILL", "USER", "alice")
        wait_until(lambda: "password cannot be read" in fault_of(store), "a connection was made without the file")
    finally:
        as_boss(server, "ACL", "SETUSER", "alice", f">{PASSWORD}")
        store.close()


def fault_of(store: Store) -> str:
    """Return why the store cannot be used now; empty where it can."""
    try:
        store.count()
    except StoreError as fault:
        return str(fault)
    return ""


def as_boss(server: Valkey, *command: str) -> None:
    """Ask a server that wants a password."""
    import valkey as library

    client = library.Valkey(*server.address, password="boss")
    client.execute_command(*command)
    client.close()


@pytest.mark.parametrize(
    ("url", "password", "cause", "remedy"),
    [
        ("redis://127.0.0.1:{}", "", "Authentication required", "--store-password-file"),
        ("redis://127.0.0.1:{}", "s3cret", "invalid username-password", "right password"),
        ("redis://alice@127.0.0.1:{}", "s3cret", "invalid username-password", "right password"),
        ("redis://alice@127.0.0.1:{}", "", "alice has no password", "KVSS_STORE_PASSWORD"),
        ("redis://bob@127.0.0.1:{}", PASSWORD, "permission", "The user needs"),
    ],
)
def test_who_is_not_let_in_is_told_so_at_the_start(  # noqa: PLR0913, PLR0917 - a table
    server: Valkey,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    url: str,
    password: str,
    cause: str,
    remedy: str,
) -> None:
    monkeypatch.setenv("KVSS_STORE_PASSWORD", password)
    assert main(["serve", "127.0.0.1:0", "--store", url.format(server.port)]) == 3
    first, second = capfd.readouterr().err.splitlines()
    assert cause in first
    assert remedy in second
    assert "s3cret" not in first + second


@pytest.mark.parametrize("flag", ["--check-config", "--print-config"])
@pytest.mark.parametrize(
    "url", ["redis://alice:s3cret@h:1/0", "clusters://:s3cret@h:1", "redsi://a:s3@cret@h", "rediss:a:s3cret@h:1"]
)
def test_a_password_in_an_address_is_refused_and_not_shown(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, url: str, flag: str
) -> None:
    assert main(["serve", flag, "--store", url]) == 2
    monkeypatch.setenv("KVSS_STORE", url)
    assert main(["serve", flag]) == 2
    shown = "".join(capfd.readouterr())
    assert shown.count("has a password in it") == 2
    assert "s3" not in shown


@pytest.mark.parametrize("content", [b"", b"\nsecond line\n", b"\xff\xfe\n", None])
def test_a_file_without_a_password_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "password"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CannotOpen, match=str(path)):
        open_store(Config(store="redis://127.0.0.1:1/0", store_password_file=str(path)))


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certs")
    for name in ("ours", "other"):
        assert main(["tls", "make-dev", str(folder / name)]) == 0
    return folder


@pytest.fixture(scope="module", params=[False, True], ids=["redis", "cluster"])
def tls_port(
    request: pytest.FixtureRequest, certs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, int]]:
    """Run a server with TLS, which wants certificates of its clients; give the scheme and the TLS port."""
    program = shutil.which("redis-server")
    if not program:
        assert not os.environ.get("CI"), "needs a redis-server with TLS"
        pytest.skip("needs a redis-server with TLS: apt-get install redis-server")
    port = free_port()
    ours = certs / "ours"
    options = ["--tls-port", str(port), "--tls-cert-file", str(ours / "server.pem"), "--tls-auth-clients", "yes"]
    options += ["--tls-key-file", str(ours / "server-key.pem"), "--tls-ca-cert-file", str(ours / "ca.pem")]
    if request.param:
        options += ["--tls-cluster", "yes"]  # then it tells its TLS port
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VALKEY_SERVER", program)
        folder = tmp_path_factory.mktemp("tls")
        with running(1, cluster=request.param, folder=folder, options=options):
            yield ("clusters" if request.param else "rediss"), port


def with_certificates(certs: Path, url: str, ca: str = "ours") -> Config:
    ours = certs / "ours"
    return Config(
        store=url,
        store_ca=str(certs / ca / "ca.pem"),
        store_cert=str(ours / "server.pem"),
        store_key=str(ours / "server-key.pem"),
    )


def test_a_store_over_tls(certs: Path, tls_port: tuple[str, int]) -> None:
    scheme, port = tls_port
    works(open_store(with_certificates(certs, f"{scheme}://127.0.0.1:{port}")))


def test_a_certificate_that_another_authority_signed_is_refused(certs: Path, tls_port: tuple[str, int]) -> None:
    scheme, port = tls_port
    with pytest.raises(CannotOpen, match="CERTIFICATE_VERIFY_FAILED") as refused:
        open_store(with_certificates(certs, f"{scheme}://127.0.0.1:{port}", ca="other"))
    assert "--store-ca" in refused.value.remedy


def test_a_server_that_wants_a_certificate_is_said_to(certs: Path, tls_port: tuple[str, int]) -> None:
    scheme, port = tls_port
    with pytest.raises(CannotOpen) as refused:
        open_store(Config(store=f"{scheme}://127.0.0.1:{port}", store_ca=str(certs / "ours" / "ca.pem")))
    assert "--store-cert" in refused.value.remedy


def test_a_file_that_holds_no_certificate_is_named(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("nothing")
    with pytest.raises(CannotOpen, match=r"wrong\.pem"):
        open_store(Config(store="rediss://127.0.0.1:1", store_ca=str(wrong)))


def test_a_pipe_in_the_place_of_a_certificate_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CannotOpen, match="pipe is not a regular file"):
        open_store(Config(store="rediss://127.0.0.1:1", store_ca=str(tmp_path / "pipe")))
