"""`kvss client` with one command: its words, its options, its address, and its exit codes."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_client import kvss
from fake_server import FakeServer, answering, fake_server, honest
from serving import deaf_port


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server(honest()) as server:
        yield server


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


def test_one_command_needs_no_module_that_only_posix_has(server: FakeServer) -> None:
    code = (
        "import sys\n"
        "for name in ('resource', 'fcntl', 'termios', 'pwd', 'grp'): sys.modules[name] = None\n"
        f"from kvss_gevent.cli import main; sys.exit(main(['client', '127.0.0.1:{server.port}', 'PUT', 'k', 'v']))"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=False)
    assert (child.returncode, child.stdout, child.stderr) == (0, "201 CREATED\n", "")
