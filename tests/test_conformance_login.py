"""`kvss conform --user`: every connection logs in first (rule 12), and neither cases nor transcripts see it."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from reference_server import State, running, talking

from kvss_gevent.cli import main
from kvss_gevent.conformance.deadline import Deadline
from kvss_gevent.conformance.dialect import Dialect
from kvss_gevent.conformance.running.opening import open_peer

LOGIN = b"KV/1.0 AUTH ann two words\n"
SLOW_S = 0.2


def locked(sock: socket.socket, state: State) -> None:
    """A server that counts a login as a request, as rule 8 says, and leaves whoever sends something else first."""
    with state.lock:
        state.counts["served"] += 1
    if sock.recv(len(LOGIN), socket.MSG_WAITALL) != LOGIN:
        sock.sendall(b"401 UNAUTHORIZED\n")
        return
    sock.sendall(b"200 OK authenticated\n")
    talking()(sock, state)


@pytest.fixture
def server() -> Iterator[str]:
    with running(locked) as port:
        yield f"127.0.0.1:{port}"


def test_a_correct_server_with_users_gets_every_point_and_no_transcript_shows_a_login(
    server: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KVSS_PASSWORD", "two words")
    assert main(["conform", server, "--user", "ann", "--verbose", "--group", "STATS", "QUIT", "concurrency"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-1].endswith("100.0 %")
    assert "KV/1.0 QUIT" in err
    assert not [word for word in ("AUTH", "authenticated", "two words") if word in out + err]
    assert main(["conform", f"kvss://ann@{server}", "--only", "quit-bye"]) == 0


def test_a_refused_login_is_told_before_any_case_is_run(
    server: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KVSS_PASSWORD", "too words")
    assert main(["conform", server, "--user", "ann", "--json"]) == 3
    out, err = capsys.readouterr()
    why = "it answers the login with '401 UNAUTHORIZED'"
    assert err == f"kvss conform: {server}: {why}\n  Check --user and the password.\n"
    card = json.loads(out)
    assert (card["error"], card["cases"]) == (why, [])


def test_the_time_of_a_login_is_not_that_of_the_case() -> None:
    def slow(sock: socket.socket, state: State) -> None:
        sock.recv(1, socket.MSG_PEEK)
        time.sleep(SLOW_S)
        locked(sock, state)

    with running(slow) as port:
        started, deadline = time.monotonic(), Deadline(60)
        with closing(open_peer(("127.0.0.1", port), deadline, Dialect(login=LOGIN))):
            assert deadline.left_s() > 60 + SLOW_S - (time.monotonic() - started)
