"""`kvss client` as a process: one command, scripts, exit codes, JSON, options."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import in_process
import pexpect
import pytest
from fake_server import FakeServer, Handler, Peer, answering, fake_server, honest
from serving import deaf_port

from kvss_gevent.client.terminal.printing import Code, reply_code


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server(honest()) as server:
        yield server


def kvss(*words: str, stdin: bytes = b"", **environment: str) -> tuple[int, str, str]:
    """Run `kvss client` in this process and return exit code, standard output and standard error."""
    done = in_process.kvss("client", *words, stdin=stdin, env=environment)
    return done.returncode, done.stdout, done.stderr


def process(*words: str | bytes) -> tuple[int, str, str]:
    """Run `kvss client` in a process of its own and return the same."""
    command = [sys.executable, "-m", "kvss_gevent", "client", *words]
    done = subprocess.run(command, capture_output=True, timeout=50, check=False)
    return done.returncode, done.stdout.decode(errors="surrogateescape"), done.stderr.decode()


def test_one_command_and_its_exit_codes(server: FakeServer) -> None:
    at = ("127.0.0.1", str(server.port))
    for run in (kvss, process):
        assert run(*at, "PUT", "name", "John", "Q.", "Public") == (0, "201 CREATED\n", "")
        assert run(*at, "GET", "name") == (0, "200 OK John Q. Public\n", "")
        assert run(*at, "DEL name") == (0, "204 NO_CONTENT\n", "")
        assert run(*at, "GET", "name") == (1, "404 NOT_FOUND\n", "")
        assert run(*at, "WRONG/1.0", "GET", "test") == (4, "426 UPGRADE_REQUIRED\n", "")
    assert kvss(*at, "GET", "") == (4, "400 BAD_REQUEST\n", "")
    assert kvss(*at, "QUIT") == (0, "200 OK bye\n", "")
    with fake_server(answering(b"500 SERVER_ERROR")) as broken, deaf_port() as deaf:
        assert process(f"127.0.0.1:{broken.port}", "GET", "k") == (5, "500 SERVER_ERROR\n", "")
        assert process(f"127.0.0.1:{deaf}", "GET", "k") == kvss(f"127.0.0.1:{deaf}", "GET", "k")
        assert process("--bogus") == kvss("--bogus")


@pytest.mark.parametrize("value", ["-5", "--json", "--", "-- -h", "two  spaces", "größe \udcff", "a\rb\r", "\\n"])
def test_behind_the_command_every_word_is_its_own(server: FakeServer, value: str) -> None:
    words = ("127.0.0.1", str(server.port), "PUT", "k", value)
    if "\udcff" in value:
        assert process(*map(os.fsencode, words))[1] == "400 BAD_REQUEST\n"
    else:
        assert kvss(*words)[1] == "201 CREATED\n"
    assert server.seen[0].removesuffix(b"\r") == b"KV/1.0 PUT k " + os.fsencode(value)


@pytest.mark.parametrize(
    "options",
    [
        ("--json", "127.0.0.1", "PORT"),
        ("127.0.0.1", "--json", "PORT"),
        ("127.0.0.1", "PORT", "--json"),
        ("127.0.0.1", "PORT", "--timeout", "5", "--json", "--"),
        ("--timeout=5", "--json", "127.0.0.1", "--", "PORT"),
    ],
)
def test_options_may_stand_anywhere_before_the_command(server: FakeServer, options: tuple[str, ...]) -> None:
    places = [word.replace("PORT", str(server.port)) for word in options]
    code, out, _ = kvss(*places, "GET", "k")
    assert (code, json.loads(out)["code"]) == (1, 404)


def test_a_command_may_begin_with_a_dash(server: FakeServer) -> None:
    assert kvss("127.0.0.1", str(server.port), "-5")[:2] == (4, "400 BAD_REQUEST\n")
    assert kvss("127.0.0.1", str(server.port), "--", "--json")[:2] == (4, "400 BAD_REQUEST\n")
    assert server.seen == [b"KV/1.0 -5", b"KV/1.0 --json"]


def test_host_and_port_from_the_environment(server: FakeServer) -> None:
    environment = {"KVSS_HOST": "127.0.0.1", "KVSS_PORT": str(server.port)}
    assert kvss(stdin=b"GET k", **environment) == (1, "404 NOT_FOUND\n", "")
    assert kvss("127.0.0.1", stdin=b"GET k", **environment)[0] == 1
    assert kvss("GET", "k", **environment) == (1, "404 NOT_FOUND\n", "")
    assert kvss("--json", "GET k", **environment)[0] == 1
    code, _, err = kvss(stdin=b"GET k", KVSS_HOST="127.0.0.1", KVSS_PORT="x")
    assert (code, err.splitlines()[0]) == (2, "kvss client: KVSS_PORT is 'x', which is not a number from 1 to 65535")


def test_every_form_of_an_address(server: FakeServer, tmp_path: Path) -> None:
    for words in (
        (f"127.0.0.1:{server.port}",),
        (f"127.0.0.1 {server.port}",),
        (f"kvss://127.0.0.1:{server.port}/",),
        (str(server.port),),
    ):
        assert kvss(*words, "GET", "k") == (1, "404 NOT_FOUND\n", "")
    path = str(tmp_path / "kvss.sock")
    with fake_server(honest(), path=path):
        assert kvss(f"unix:{path}", "PUT", "k", "v") == (0, "201 CREATED\n", "")
    assert kvss(f"unix:{path}x", "GET", "k")[2].startswith(f"kvss client: cannot connect to unix:{path}x: No such file")


def test_one_command_again_and_again(server: FakeServer) -> None:
    begin = time.monotonic()
    assert kvss("-r", "3", "-i", "0.2", f"127.0.0.1:{server.port}", "PUT", "k", "v") == (
        0,
        "201 CREATED\n200 OK\n200 OK\n",
        "",
    )
    assert time.monotonic() - begin >= 0.4
    assert server.accepted == 1
    code, out, _ = kvss("-r", "2", "--json", f"127.0.0.1:{server.port}", "GET", "none")
    assert (code, [json.loads(line)["code"] for line in out.splitlines()]) == (1, [404, 404])


def test_a_stream_of_commands_and_its_summary(server: FakeServer) -> None:
    lines = b"".join(b"PUT k%d %s\n" % (number, b"v" * 500) for number in range(3000))
    lines += b"get k1\nGET none\nQUIT\nDEL k1"
    code, out, err = kvss("--pipe", f"127.0.0.1:{server.port}", stdin=b"# many\n" + lines)
    assert code == Code.REFUSED
    summary, kinds = out.split("; ")
    assert re.fullmatch(r"3003 replies in [\d.]+ s \([\d,]+ a second\)", summary)
    assert kinds == "201 CREATED: 3000, 400 BAD_REQUEST: 1, 404 NOT_FOUND: 1, 200 OK: 1\n"
    assert err == "line 3002: 400 BAD_REQUEST to 'KV/1.0 get k1'\n"
    assert server.accepted == 1
    assert kvss("--pipe", str(server.port)) == (0, "0 replies in 0.00 s (0 a second); nothing was sent\n", "")


def test_a_stream_that_ends_early_says_how_far_it_came() -> None:
    with fake_server(answering(b"201 CREATED", b"200 OK")) as server:
        code, out, err = kvss("--pipe", f"127.0.0.1:{server.port}", stdin=b"PUT a 1\nPUT a 2\nPUT a 3\n")
    assert (code, out) == (3, "")
    assert err.startswith("kvss client: 2 replies came, then line 3: lost the connection to")


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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("get", "name"), "Commands are upper case: GET."),
        (("127.0.0.1", "0"), "PORT is '0', which is not a number from 1 to 65535"),
        (("127.0.0.1", "65536"), "PORT is '65536', which is not a number from 1 to 65535"),
        (("-r", "0", "STATS"), "'0' is not a whole number from 1"),
        (("-i", "-1", "STATS"), "'-1' is not a number of seconds from 0"),
        (("-r", "2"), "--json, -r and -i are for one command"),
        (("--pipe", "GET", "a"), "--pipe reads commands from standard input"),
        (("--user", "a b", "--password-file", __file__, "GET", "a"), "user must not contain a space"),
        (("--user", "ann", "--password-file", "/nowhere", "GET", "a"), "no password for ann: /nowhere: No such file"),
        (("--user", "ann", "--password-file", "/dev/null", "GET", "a"), "password must have at least one character"),
        (("--timeout", "0"), "'0' is not a number of seconds"),
        (("--timeout", "soon"), "'soon' is not a number of seconds"),
        (("--timeout", "nan"), "'nan' is not a number of seconds"),
        (("127.0.0.1", "--bogus", "5050"), "client: there is no option --bogus"),
        (("--bogus",), "client: there is no option --bogus"),
        (("--json",), "--json, -r and -i are for one command"),
        (("127.0.0.1", "5050", "PUT", "k", "a\nKV/1.0 DEL b"), "the command contains a line feed: 'PUT k a\\nKV/1.0"),
    ],
)
def test_usage(words: tuple[str, ...], message: str) -> None:
    code, out, err = kvss(*words)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


def test_help_has_the_exit_codes() -> None:
    code, out, _ = kvss("--help")
    assert code == 0
    for text in (
        "0  done",
        "1  404",
        "2  wrong usage",
        "3  no connection",
        "4  another 4xx",
        "5  5xx",
        "KVSS_HOST",
        "--json",
    ):
        assert text in out


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


def cut(peer: Peer) -> None:
    peer.line()
    peer.send(b"200 OK a")


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


def test_a_script(server: FakeServer) -> None:
    script = "# a comment\n\nPUT a größe \r\nGET a\nWRONG/1.0 GET test\nhelp\n#GET b\nGET b\nKV/1.0 GET a".encode()
    code, out, err = kvss("127.0.0.1", str(server.port), stdin=script)
    assert code == 4
    assert out == "201 CREATED\n200 OK größe \n426 UPGRADE_REQUIRED\n404 NOT_FOUND\n200 OK größe \n"
    assert "forget a key" in err
    assert server.accepted == 1


def test_a_script_is_bytes() -> None:
    with fake_server(answering(b"200 OK \xff\x1b")) as server:
        code, out, _ = kvss("127.0.0.1", str(server.port), stdin=b"GET \xfe\n")
    assert (code, out.encode(errors="surrogateescape")) == (0, b"200 OK \xff\x1b\n")
    assert server.seen == [b"KV/1.0 GET \xfe"]


@pytest.mark.parametrize(("last", "out"), [(b"QUIT", "200 OK bye\n"), (b"EXIT", "")])
def test_the_end_of_a_script(server: FakeServer, last: bytes, out: str) -> None:
    assert kvss("127.0.0.1", str(server.port), stdin=b"PUT a 1\n" + last + b"\nGET b\n") == (
        0,
        "201 CREATED\n" + out,
        "",
    )


def test_a_script_stops_where_the_server_does() -> None:
    with fake_server(answering(b"400 BAD_REQUEST", b"200 OK a\nextra")) as server:
        code, out, err = kvss("127.0.0.1", str(server.port), stdin=b"GET\nGET a\nDEL a\n")
        assert (code, out) == (5, "400 BAD_REQUEST\n200 OK a\n")
        assert err.startswith("kvss client: line 2: 127.0.0.1:")
    with fake_server(cut) as server:
        code, out, err = kvss("127.0.0.1", str(server.port), stdin=b"PUT a 1\nPUT b 2\n")
    assert (code, out) == (3, "")
    assert err.startswith("kvss client: line 1: lost the connection")
    assert server.seen == [b"KV/1.0 PUT a 1"]


def test_a_script_without_end(server: FakeServer) -> None:
    code, _, err = kvss("127.0.0.1", str(server.port), stdin=b"PUT a 1\nPUT a " + b"v" * (64 << 20))
    assert code == 2
    assert err.startswith(f"kvss client: line 2 is over {64 << 20} bytes long")


def test_no_standard_input(server: FakeServer) -> None:
    command = f"{sys.executable} -m kvss_gevent client 127.0.0.1 {server.port} <&-"
    assert subprocess.run(["/bin/sh", "-c", command], timeout=50, check=False).returncode == 0


def test_a_reader_that_leaves(server: FakeServer) -> None:
    command = f"(yes 'GET a' | head -20000 | {sys.executable} -m kvss_gevent client 127.0.0.1 {server.port}) | head -1"
    child = subprocess.run(["/bin/sh", "-c", command], capture_output=True, timeout=50, check=False)
    assert (child.stdout, child.stderr) == (b"404 NOT_FOUND\n", b"")


def test_ctrl_c_ends_without_a_traceback() -> None:
    asked = threading.Event()

    def handle(peer: Peer) -> None:
        peer.line()
        asked.set()
        peer.stall()

    with fake_server(handle) as server:
        child = subprocess.Popen(
            [sys.executable, "-m", "kvss_gevent", "client", "127.0.0.1", str(server.port), "GET", "k"],
            stderr=subprocess.PIPE,
        )
        assert asked.wait(50)
        child.send_signal(signal.SIGINT)
        assert child.communicate(timeout=50)[1] == b""
    assert child.returncode == 130


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


def test_one_command_needs_no_module_that_only_posix_has(server: FakeServer) -> None:
    code = (
        "import sys\n"
        "for name in ('resource', 'fcntl', 'termios', 'pwd', 'grp'): sys.modules[name] = None\n"
        f"from kvss_gevent.cli import main; sys.exit(main(['client', '127.0.0.1:{server.port}', 'PUT', 'k', 'v']))"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=False)
    assert (child.returncode, child.stdout, child.stderr) == (0, "201 CREATED\n", "")
