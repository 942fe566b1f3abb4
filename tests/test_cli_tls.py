"""`kvss tls make-dev`: a client that trusts its authority talks to a server with its certificate."""

import socket
import ssl
import threading
from pathlib import Path

import pytest

from kvss_gevent.cli import main
from kvss_gevent.server.security.tls import server_context


def test_what_it_writes_serves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "new" / "certs"
    assert main(["tls", "make-dev", str(folder), "--name", "lab.test"]) == 0
    assert capsys.readouterr().out.split() == [
        str(folder / name) for name in ("ca.pem", "server.pem", "server-key.pem")
    ]
    assert (folder / "server-key.pem").stat().st_mode & 0o077 == 0
    context = server_context(folder / "server.pem", folder / "server-key.pem")
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with context.wrap_socket(ours, server_side=True) as sock:
            sock.sendall(b"hello")

    thread = threading.Thread(target=serve)
    thread.start()
    trust = ssl.create_default_context(cafile=folder / "ca.pem")
    with trust.wrap_socket(theirs, server_hostname="lab.test") as sock:
        assert sock.recv(10) == b"hello"
    thread.join(10)


def test_it_replaces_nothing_unless_told_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tls", "make-dev", str(tmp_path)]) == 0
    key = (tmp_path / "server-key.pem").read_bytes()
    assert main(["tls", "make-dev", str(tmp_path)]) == 2
    assert (tmp_path / "server-key.pem").read_bytes() == key
    assert "exists already" in capsys.readouterr().err
    assert main(["tls", "make-dev", str(tmp_path), "--force"]) == 0
    assert (tmp_path / "server-key.pem").read_bytes() != key


@pytest.mark.parametrize("folder", ["file/certs", "x" * 300])
def test_a_folder_that_cannot_be_made_is_one_line_and_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], folder: str
) -> None:
    (tmp_path / "file").touch()
    assert main(["tls", "make-dev", str(tmp_path / folder)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


@pytest.mark.parametrize("name", ["", "a b"])
def test_a_name_that_no_server_can_have_is_one_line_and_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert main(["tls", "make-dev", str(tmp_path / "certs"), "--name", name]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2
    assert not (tmp_path / "certs").exists()
