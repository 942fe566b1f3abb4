"""Scripts and streams of commands that `kvss client` reads, and how they end."""

import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from cli_client import cut, kvss
from fake_server import FakeServer, Peer, answering, fake_server, honest

from kvss_gevent.client.terminal.printing import Code


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server(honest()) as server:
        yield server


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
