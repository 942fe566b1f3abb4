"""Logging in with `kvss client`, and its TLS."""

import subprocess
import sys
from pathlib import Path

import pexpect
from cli_client import kvss
from fake_server import Peer, fake_server, honest


def users(peer: Peer) -> None:
    """A server with one user, ann, whose password is `open sesame`."""
    while line := peer.line():
        if line == b"KV/1.0 AUTH ann open sesame":
            peer.send(b"200 OK authenticated\n")
        else:
            peer.send(b"404 NOT_FOUND\n" if line.startswith(b"KV/1.0 GET") else b"401 UNAUTHORIZED\n")


def test_logging_in(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("open sesame\r\nsecond line\n")
    with fake_server(users) as server:
        at = f"127.0.0.1:{server.port}"
        found = (1, "404 NOT_FOUND\n", "")
        assert kvss("--user", "ann", "--password-file", str(secret), at, "GET", "k") == found
        assert kvss("--user", "ann", at, "GET", "k", KVSS_PASSWORD="open sesame") == found
        assert kvss(f"kvss://ann@{at}", "GET", "k", KVSS_PASSWORD="open sesame") == found
        code, out, err = kvss("--user", "ann", at, "GET", "k", KVSS_PASSWORD="wrong")
        assert (code, out) == (4, "")
        assert err.splitlines()[0] == f"kvss client: AUTH ann: {at} answered 401 UNAUTHORIZED"
        assert "wrong" not in err
        assert server.seen[-1] == b"KV/1.0 AUTH ann wrong"
        child = pexpect.spawn(
            sys.executable,
            ["-m", "kvss_gevent", "client", "--user", "ann", at, "GET", "k"],
            encoding="utf-8",
            timeout=50,
        )
        child.expect_exact("Password of ann: ")
        child.sendline("open sesame")
        child.expect_exact("404 NOT_FOUND")
        child.expect(pexpect.EOF)
        child.close()
        assert "sesame" not in str(child.before)


def test_where_there_is_no_terminal_no_line_of_the_script_is_taken_for_a_password() -> None:
    child = subprocess.run(
        [sys.executable, "-m", "kvss_gevent", "client", "kvss://ann@127.0.0.1:1"],
        input=b"GET a\n",
        capture_output=True,
        start_new_session=True,
        timeout=50,
        check=False,
    )
    assert (child.returncode, child.stdout) == (2, b"")
    assert child.stderr.decode().splitlines() == [
        "kvss client: no password for ann: none was given",
        "  Give --password-file FILE or $KVSS_PASSWORD, or type it at a terminal.",
    ]


def test_a_file_of_authorities_that_cannot_be_used_is_told_and_not_the_server(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("")
    for name, why in (("empty.pem", "it holds no certificate"), ("none.pem", "No such file or directory")):
        code, _, err = kvss("--ca", str(tmp_path / name), "127.0.0.1:1", "GET", "a")
        assert (code, err.splitlines()[0]) == (
            2,
            f"kvss client: cannot use the authorities in {tmp_path / name}: {why}",
        )


def test_tls(tmp_path: Path) -> None:
    path = tmp_path / "server.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "-", "-out", "-"]
    path.write_bytes(subprocess.run([*command.split(), *names], capture_output=True, check=True).stdout)
    with fake_server(honest(), certificate=path) as server:
        at = f"127.0.0.1:{server.port}"
        assert kvss("--ca", str(path), at, "GET", "k") == (1, "404 NOT_FOUND\n", "")
        code, out, err = kvss("--insecure", at, "GET", "k")
        assert (code, out) == (1, "404 NOT_FOUND\n")
        assert "anyone in the network can read" in err
        code, out, err = kvss("--tls", at, "GET", "k")
        assert (code, out) == (3, "")
        assert "its certificate is not trusted" in err.splitlines()[0]
        assert "--ca FILE" in err.splitlines()[1]
