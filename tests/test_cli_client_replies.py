"""What `kvss client` makes of replies: exit codes, JSON, and servers that misbehave."""

import json
import os
import sys
from pathlib import Path

import pexpect
import pytest
from cli_client import cut, kvss
from fake_server import Handler, Peer, answering, fake_server
from serving import deaf_port

from kvss_gevent.client.terminal.printing import Code, reply_code


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (b"200 OK", Code.DONE),
        (b"200 OK a\rb", Code.DONE),
        (b"204 NO_CONTENT", Code.DONE),
        (b"404 NOT_FOUND", Code.NOT_FOUND),
        (b"404 Not Found", Code.NOT_FOUND),
        (b"400 BAD_REQUEST", Code.REFUSED),
        (b"426 UPGRADE_REQUIRED", Code.REFUSED),
        (b"500 SERVER_ERROR", Code.SERVER),
        (b"302 FOUND", Code.SERVER),
        (b"2000 OK", Code.SERVER),
        (b"<html>", Code.SERVER),
        (b"", Code.SERVER),
    ],
)
def test_the_exit_code_of_a_reply(reply: bytes, code: Code) -> None:
    assert reply_code(reply) is code


def silent(peer: Peer) -> None:
    peer.line()
    peer.stall()


@pytest.mark.parametrize(
    ("handler", "code", "out", "cause"),
    [
        (answering(b"500 SERVER_ERROR"), 5, "500 SERVER_ERROR\n", ""),
        (answering(b"<html>"), 5, "<html>\n", ""),
        (
            answering(b"200 OK a\n\x1b[2J"),
            5,
            "200 OK a\n",
            "does not keep to KV/1.0: it sent a reply too many, '\\x1b[2J'",
        ),
        (silent, 3, "", "no reply from 127.0.0.1:PORT: none came within 0.5 s"),
        (cut, 3, "", "lost the connection to 127.0.0.1:PORT: the server closed it in the middle of a reply"),
    ],
)
def test_servers_that_misbehave(handler: Handler, code: int, out: str, cause: str) -> None:
    with fake_server(handler) as server:
        words = ("--timeout", "0.5" if handler is silent else "20", "127.0.0.1", str(server.port))
        plain, as_json = kvss(*words, "GET", "k"), kvss("--json", *words, "GET", "k")
    assert plain[:2] == (code, out)
    assert as_json[0] == code
    answer = json.loads(as_json[1])
    if cause:
        cause = cause.replace("PORT", str(server.port))
        for result in (plain, as_json):
            assert result[2].startswith("kvss client: ")
            assert cause in result[2].splitlines()[0]
            assert len(result[2].splitlines()) == 2
        assert cause in answer["error"]
    assert (answer["error"] is None) == out.startswith("500")


def test_a_server_that_closes_before_the_reply_may_want_tls() -> None:
    with fake_server(lambda peer: peer.line()) as server:
        code, out, err = kvss("127.0.0.1", str(server.port), "GET", "k")
    assert (code, out) == (3, "")
    assert (
        err.splitlines()[1]
        == "  A command that writes may have taken effect; GET tells. A server with TLS needs --tls."
    )


def test_no_server() -> None:
    with deaf_port() as port:
        cause = f"cannot connect to 127.0.0.1:{port}: Connection refused"
        code, out, err = kvss("127.0.0.1", str(port), "GET", "k")
        assert (code, out, err.splitlines()[0]) == (3, "", "kvss client: " + cause)
        code, out, _ = kvss("--json", "127.0.0.1", str(port), "GET", "k")
        nothing = {"code": None, "phrase": None, "data": None, "data_base64": None}
        assert (code, json.loads(out)) == (3, {**nothing, "error": cause})
        assert kvss("127.0.0.1", str(port), stdin=b"# nothing to do\n\n") == (0, "", "")


@pytest.mark.parametrize(
    ("reply", "fields"),
    [
        (b"200 OK", (200, "OK", None, None)),
        ("200 OK größe \x1b".encode(), (200, "OK", "größe \x1b", None)),
        (b"200 OK \xff\x00", (200, "OK", None, "/wA=")),
        (b"201 CREATED", (201, "CREATED", None, None)),
        (b"426 UPGRADE_REQUIRED", (426, "UPGRADE_REQUIRED", None, None)),
    ],
)
def test_json(reply: bytes, fields: tuple[object, ...]) -> None:
    with fake_server(answering(reply)) as server:
        _, out, err = kvss("--json", "127.0.0.1", str(server.port), "GET", "k")
    assert out.isascii()
    assert json.loads(out) == dict(
        zip(("code", "phrase", "data", "data_base64", "error"), (*fields, None), strict=True)
    )
    assert err == ""


def test_json_of_something_else() -> None:
    with fake_server(answering(b"hello")) as server:
        _, out, _ = kvss("--json", "127.0.0.1", str(server.port), "GET", "k")
    assert json.loads(out)["error"] == f"127.0.0.1:{server.port} does not keep to KV/1.0: not a reply: 'hello'"


def test_a_reply_on_a_terminal_is_made_harmless(tmp_path: Path) -> None:
    with fake_server(answering(b"200 OK \x1b]0;owned\x07")) as server:
        child = pexpect.spawn(
            sys.executable,
            ["-m", "kvss_gevent", "client", "127.0.0.1", str(server.port), "GET", "k"],
            env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
            encoding="utf-8",
            timeout=50,
        )
        child.expect(pexpect.EOF)
        child.close()
    assert child.before == "200 OK \\x1b]0;owned\\x07\r\n"
    assert child.exitstatus == 0
