"""`kvss serve` as a command: flags, variables, messages and exit codes."""

import re
import socket
import subprocess
import sys

import in_process
import pytest
from serving import serving

from kvss_gevent.settings.config import Config, variable
from kvss_gevent.settings.fail import Fail
from kvss_gevent.settings.sources import read_settings


def to_config(given: dict[str, str], environ: dict[str, str]) -> Config:
    return read_settings(given, environ).config


def kvss(*args: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "kvss_gevent", *args], capture_output=True, text=True, timeout=50, check=False
    )


def test_flag_before_variable_before_default() -> None:
    assert to_config({}, {}) == Config()
    assert to_config({}, {"KVSS_MAX_LINE": "64K"}).max_line_bytes == 65536
    assert to_config({"max_line_bytes": "1000"}, {"KVSS_MAX_LINE": "64K"}).max_line_bytes == 1000


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("port", "0", 0),
        ("port", "65535", 65535),
        ("max_connections", "7", 7),
        ("max_line_bytes", "2MiB", 2 << 20),
        ("max_unsent_bytes", "3g", 3 << 30),
        ("line_timeout_s", "1.5", 1.5),
        ("idle_timeout_s", "0", 0.0),
        ("stats_format", "lab", "lab"),
        ("host", "::1", "::1"),
    ],
)
def test_values(name: str, text: str, value: object) -> None:
    assert getattr(to_config({name: text}, {}), name) == value
    assert getattr(to_config({}, {variable(name): text}), name) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("port", "65536"),
        ("port", "-1"),
        ("port", "http"),
        ("max_connections", "-1"),
        ("max_connections", "1.5"),
        ("max_line_bytes", "0"),
        ("max_line_bytes", "1T"),
        ("line_timeout_s", "-1"),
        ("line_timeout_s", "nan"),
        ("write_timeout_s", "inf"),
        ("stats_format", "xml"),
        ("host", "a b"),
    ],
)
def test_bad_values_name_their_source_and_what_would_do(name: str, text: str) -> None:
    with pytest.raises(Fail, match=variable(name)) as caught:
        to_config({}, {variable(name): text})
    assert caught.value.code == 2
    assert repr(text) in caught.value.cause
    assert caught.value.remedy.startswith("Give ")


def test_a_bad_flag_is_two_lines_and_exit_code_2() -> None:
    done = kvss("serve", "--max-line", "huge")
    assert done.returncode == 2
    assert (
        done.stderr
        == "kvss serve: --max-line is 'huge'\n  Give a size in bytes from 1 to 1048576G, such as 65536, 64K or 1M.\n"
    )
    assert done.stdout == ""


def test_an_unknown_flag_and_a_bad_word_are_exit_code_2() -> None:
    done = in_process.kvss("serve", "--no-such-flag")
    assert done.returncode == 2
    assert "kvss serve: there is no option --no-such-flag" in done.stderr
    done = in_process.kvss("serve", "--stats-format", "xml")
    assert done.returncode == 2
    assert done.stderr.startswith("kvss serve: --stats-format is 'xml'\n")


def test_a_port_in_use_is_exit_code_3() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        done = kvss("serve", "127.0.0.1", port)
        assert done.returncode == 3
        assert done.stderr == (
            f"kvss serve: cannot listen on 127.0.0.1:{port}: Address already in use\n"
            "  Stop the program that uses it, or choose another port: port 0 is a free one.\n"
        )


@pytest.mark.parametrize(
    ("host", "cause"),
    [
        ("192.0.2.1", "Cannot assign requested address"),
        ("no such host.invalid", "not a host name"),
        ("nosuchhost.invalid", "cannot find the address"),
    ],
)
def test_a_host_that_is_not_ours(host: str, cause: str) -> None:
    done = kvss("serve", host, "0", "--open")
    assert done.returncode in (2, 3)
    assert cause in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 2


def test_the_port_is_given_once() -> None:
    done = in_process.kvss("serve", "127.0.0.1", "0", "--port", "0")
    assert done.returncode == 2
    assert "given twice" in done.stderr


def test_help_names_every_limit_with_its_default_and_variable() -> None:
    text = " ".join(in_process.kvss("serve", "--help").stdout.split())
    for wanted in (
        "--max-connections N",
        "(0; KVSS_MAX_CONNECTIONS)",
        "(1 MiB; KVSS_MAX_LINE)",
        "(1 MiB; KVSS_MAX_UNSENT)",
        "(30 s; KVSS_LINE_TIMEOUT)",
        "(off; KVSS_IDLE_TIMEOUT)",
        "(30 s; KVSS_WRITE_TIMEOUT)",
        "(5 s; KVSS_DRAIN_TIMEOUT)",
        "exit codes:",
    ):
        assert wanted in text


def test_no_command_lists_them() -> None:
    done = in_process.kvss()
    assert done.returncode == 2
    assert "serve" in in_process.kvss("--help").stdout
    assert kvss("--version").stdout.startswith("kvss 0.")


def test_a_reader_that_leaves_is_no_error() -> None:
    done = subprocess.run(
        f"{sys.executable} -m kvss_gevent conform --list | head -1",
        shell=True,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""


@pytest.mark.server
def test_variables_reach_the_server() -> None:
    with serving(env={"KVSS_STATS_FORMAT": "lab", "KVSS_MAX_LINE": "100"}) as server:
        assert re.fullmatch(rb"200 OK keys=0 uptime=\d+s served=1\n", server.ask(b"KV/1.0 STATS\n"))
        assert server.ask(b"KV/1.0 PUT k " + b"v" * 100 + b"\n") == b"400 BAD_REQUEST\n"


@pytest.mark.server
def test_a_public_address_is_served_with_a_warning() -> None:
    with serving("0.0.0.0", "--open") as server:
        assert server.ask(b"KV/1.0 GET a\n") == b"404 NOT_FOUND\n"
        _, log = server.stop()
        assert "--open lets them in" in log


@pytest.mark.server
def test_ipv6() -> None:
    with serving("::1") as server, socket.create_connection(("::1", server.port), 5) as sock:
        sock.sendall(b"KV/1.0 GET a\n")
        assert sock.recv(100) == b"404 NOT_FOUND\n"
