"""Right servers of another shape have every point: replies in pieces, short backlogs, ::1, standard input."""

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from reference_server import Converse, State, answer, running, talking

from kvss_gevent.conformance.case_plan import Plan
from kvss_gevent.conformance.deadline import Deadline
from kvss_gevent.conformance.peer import Peer
from kvss_gevent.conformance.process.shell_command import Bounds, ShellCommand
from kvss_gevent.conformance.process.submission import Submission
from kvss_gevent.conformance.running.runner import grade, grade_submission

TESTS = Path(__file__).parent


def in_two_pieces(pause_s: float) -> Converse:
    """A right server that sends a reply's line feed by itself."""

    def converse(sock: socket.socket, state: State) -> None:
        def reply_to(state: State, line: bytes) -> tuple[bytes, bool]:
            reply, ends = answer(state, line)
            sock.sendall(reply)
            time.sleep(pause_s)
            return b"", ends

        talking(reply_to)(sock, state)

    return converse


def test_a_reply_whose_line_feed_comes_later_has_one() -> None:
    with running(in_two_pieces(0.06)) as port:
        card = grade("127.0.0.1", port, Plan(only=("reply-ends-in-lf", "get", "quit-closes")))
    assert card.points == card.possible, card.verdicts


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux acknowledges at once where it is asked to")
@pytest.mark.timing
def test_a_reply_in_two_pieces_does_not_wait_for_an_acknowledgement() -> None:
    with running(in_two_pieces(0)) as port, closing(Peer(("127.0.0.1", port), Deadline(60))) as peer:
        started = time.monotonic()
        for _ in range(100):
            peer.send(b"KV/1.0 GET k\n")
            assert peer.line() == b"404 NOT_FOUND"
        assert time.monotonic() - started < 2.0, "a delayed acknowledgement takes 40 ms, a hundred take 4 s"


@contextlib.contextmanager
def short_backlog() -> Iterator[int]:
    """Run a right server that accepts only now and then, and lets the kernel keep two connections meanwhile."""
    state = State()
    with socket.create_server(("127.0.0.1", 0), backlog=1) as listener:

        def serve(sock: socket.socket) -> None:
            with sock, contextlib.suppress(OSError):
                talking()(sock, state)

        def accept() -> None:
            while not state.stopping.wait(0.003):
                with contextlib.suppress(OSError):
                    sock, _ = listener.accept()
                    sock.settimeout(None)
                    threading.Thread(target=serve, args=(sock,), daemon=True).start()

        listener.settimeout(0.1)
        thread = threading.Thread(target=accept)
        thread.start()
        yield listener.getsockname()[1]
        state.stopping.set()
        thread.join(10)


def test_a_short_backlog_costs_nothing() -> None:
    with short_backlog() as port:
        card = grade("127.0.0.1", port, Plan(only=("hundred-clients", "race-put")))
    assert card.points == card.possible, card.verdicts


def test_a_server_of_localhost_is_found_where_that_is_ipv6(tmp_path: Path) -> None:
    serve = (
        "from reference_server import *\nwith running(talking(), host='::1', port={port}): __import__('time').sleep(99)"
    )
    command = f'PYTHONPATH={TESTS} {sys.executable} -c "{serve}"'
    card = grade_submission(Submission(ShellCommand(command, tmp_path)), Plan(only=("get", "stats-fresh")))
    assert card.points == card.possible, card.verdicts
    assert card.target.startswith("[::1]:")


def test_standard_input_of_a_server_does_not_end_and_that_of_a_build_does(tmp_path: Path) -> None:
    serve = "from reference_server import *\nwith running(talking(), port={port}): input()"
    command = f"PYTHONPATH={TESTS} {sys.executable} -c '{serve}'"
    card = grade_submission(Submission(ShellCommand(command, tmp_path)), Plan(only=("get", "put-new")))
    assert card.points == card.possible, card.verdicts
    death = ShellCommand("cat && false", tmp_path, Bounds(wall_s=20)).run(threading.Event())
    assert death is not None
    assert (death.status, death.limit) == (1, "")


def test_a_port_is_free_again_behind_a_server_that_closed_first() -> None:
    def listen(port: int) -> socket.socket:
        listener = socket.socket()  # without SO_REUSEADDR, as many a server has it
        listener.bind(("127.0.0.1", port))
        listener.listen()
        return listener

    with listen(0) as listener:
        port = listener.getsockname()[1]
        peer = Peer(("127.0.0.1", port), Deadline(5))
        sock, _ = listener.accept()
        sock.close()
        assert peer.rest() == b""
        peer.close()
    listen(port).close()
