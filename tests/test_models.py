"""Every concurrency model from outside: the conformance table, clients at once, deaf and broken ones, stopping."""

import contextlib
import ctypes
import os
import signal
import socket
import struct
import sys
import time
from concurrent.futures import Future
from pathlib import Path

import pytest
from model_servers import GET, MISS, ROWS, TEXTBOOK, children, model, runs
from serving import read_lines, wait_until
from side_by_side import side_by_side

from kvss_gevent.conformance.case_plan import Plan
from kvss_gevent.conformance.cases import CASES
from kvss_gevent.conformance.running.runner import grade
from kvss_gevent.conformance.score import Scorecard
from kvss_gevent.models import DEFAULT, MODULES, load

AT_A_TIME = 6
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
LOSING_NOTHING = [name for name in TEXTBOOK if not ROWS[name].loses]
SEVERAL_AT_ONCE = [name for name in MODULES if name != "sequential"]


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Future[list[Scorecard]]]:
    directory = tmp_path_factory.mktemp("graded")

    def cards_of(name: str) -> list[Scorecard]:
        loses = ROWS[name].loses
        # A case that is lost by nature times out. No other case waits for that, so a busy machine gets time.
        plans = [Plan(timeout_s=6.0, without=loses), Plan(timeout_s=2.0, only=loses)][: 2 if loses else 1]
        with model(name, directory) as server:
            return [grade("127.0.0.1", server.port, plan) for plan in plans]

    return side_by_side(cards_of, MODULES, AT_A_TIME)


@pytest.mark.server
@pytest.mark.timeout(300)  # the first one waits until all are graded
@pytest.mark.parametrize("name", MODULES)
def test_it_passes_the_conformance_table_but_for_what_it_loses_by_nature(
    name: str, cards: dict[str, Future[list[Scorecard]]]
) -> None:
    graded = cards[name].result()
    assert {failure.case.id for card in graded for failure in card.failures} == set(ROWS[name].loses)
    assert sum(len(card.verdicts) for card in graded) > 100


@pytest.fixture(scope="module")
def deaf_clients(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Future[None]]:
    directory = tmp_path_factory.mktemp("deaf")
    reply = b"200 OK " + b"v" * 300_000 + b"\n"
    alone, together = 200, 30  # far more than the kernel takes for a connection, in many packets and in one

    def serve_a_deaf_client(name: str) -> None:
        with model(name, directory) as server, server.connect() as deaf:
            deaf.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            assert server.ask(reply.replace(b"200 OK", b"KV/1.0 PUT big")) == b"201 CREATED\n"
            before_bytes = server.resident_bytes()
            for _ in range(alone):
                deaf.sendall(b"KV/1.0 GET big\n")
                time.sleep(0.002)
            deaf.sendall(b"KV/1.0 GET big\n" * together + b"KV/1.0 QUIT\n")
            for _ in range(3):
                assert server.ask(GET) == MISS + b"\n"
            assert server.resident_bytes() - before_bytes < alone * len(reply) / 2
            with deaf.makefile("rb", len(reply)) as replies:
                assert all(replies.readline() == reply for _ in range(alone + together))
                assert replies.read() == b"200 OK bye\n"

    return side_by_side(serve_a_deaf_client, SEVERAL_AT_ONCE, AT_A_TIME)


@pytest.mark.server
@pytest.mark.parametrize("name", SEVERAL_AT_ONCE)
def test_a_client_that_does_not_read_blocks_nobody_and_gets_all_it_asked_for_when_it_does(
    name: str, deaf_clients: dict[str, Future[None]]
) -> None:
    deaf_clients[name].result()


@pytest.fixture(scope="module")
def taken_shares(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Future[float]]:
    directory = tmp_path_factory.mktemp("unread")
    too_many = memoryview(b"KV/1.0 GET big\n" * 4_000_000)  # 60 MB: kernels keep some 10 MB for a connection

    def taken_share(name: str) -> float:
        with model(name, directory) as server:
            assert server.ask(b"KV/1.0 PUT big " + b"v" * 100_000 + b"\n") == b"201 CREATED\n"
            with server.connect(0.5) as deaf:
                sent = 0
                with contextlib.suppress(TimeoutError):
                    while sent < len(too_many):
                        sent += deaf.send(too_many[sent : sent + 1_000_000])
                return sent / len(too_many)

    return side_by_side(taken_share, MODULES, AT_A_TIME)


@pytest.mark.server
@pytest.mark.parametrize("name", MODULES)
def test_a_client_that_does_not_read_is_not_read_from(name: str, taken_shares: dict[str, Future[float]]) -> None:
    assert 0 < taken_shares[name].result() < 0.5


@pytest.mark.server
@pytest.mark.parametrize(("name", "size"), [("sequential", 1), ("pool", 3), ("prefork", 3)])
def test_it_serves_as_many_clients_as_its_size_and_the_next_when_one_leaves(
    name: str, size: int, tmp_path: Path
) -> None:
    flags = () if name == "sequential" else ("--pool-size", str(size))
    with model(name, tmp_path, *flags) as server, contextlib.ExitStack() as stack:
        served = [stack.enter_context(server.connect()) for _ in range(size)]
        for sock in served:
            sock.sendall(GET)
            assert read_lines(sock, 1) == [MISS]
        with server.connect(0.3) as waiting:
            waiting.sendall(GET)
            with pytest.raises(TimeoutError):
                waiting.recv(1)
            served[-1].close()
            waiting.settimeout(20)  # it is served now, however busy the machine is
            assert read_lines(waiting, 1) == [MISS]


@pytest.mark.server
@pytest.mark.parametrize("name", TEXTBOOK)
def test_sigterm_ends_it_with_exit_code_0_while_clients_are_connected(name: str, tmp_path: Path) -> None:
    with model(name, tmp_path) as server, contextlib.ExitStack() as stack:
        quiet, half, deaf = (stack.enter_context(server.connect()) for _ in range(3))
        quiet.sendall(GET)
        assert read_lines(quiet, 1) == [MISS]
        half.sendall(b"KV/1.0 PUT half")
        deaf.sendall(b"KV/1.0 STATS\n" * 20_000)
        processes = children(server.process.pid)
        code, log = server.stop(limit_s=6.0)
        assert (code, log) == (0, "")
        assert quiet.recv(1) == b""
        assert not any(map(runs, processes))


@pytest.mark.server
@pytest.mark.parametrize("name", TEXTBOOK)
def test_connections_that_break_off_are_no_tracebacks_and_leave_no_connection_counted(
    name: str, tmp_path: Path
) -> None:
    with model(name, tmp_path) as server:
        for sent in (b"", GET, b"KV/1.0 PUT half", b"KV/1.0 STATS\n" * 5000) * 5:
            sock = server.connect()
            sock.sendall(sent)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            sock.close()
        wait_until(lambda: b" connections: 1;" in server.ask(b"KV/1.0 STATS\n"))
        assert server.stop(6, signal.SIGINT) == (0, "")


@pytest.mark.server
def test_asyncio_is_left_with_no_error_of_a_connection_that_breaks_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # asyncio hides such an error when it collects the connection first. Without that, each error that is left shows.
    (tmp_path / "sitecustomize.py").write_text(
        "import asyncio.streams\ndel asyncio.streams.StreamReaderProtocol.__del__\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    with model("asyncio", tmp_path) as server:
        for _ in range(3):
            sock = server.connect()
            sock.sendall(GET)
            assert read_lines(sock, 1) == [MISS]
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            sock.close()
        wait_until(lambda: b" connections: 1;" in server.ask(b"KV/1.0 STATS\n"))
        assert server.stop(6, signal.SIGINT) == (0, "")


@pytest.mark.server
@pytest.mark.skipif(sys.platform != "linux", reason="a signal for one thread is Linux's")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("name", ["pool", "threads"])
def test_a_stop_signal_that_interrupts_no_call_of_the_main_thread_is_not_lost(
    name: str, number: int, tmp_path: Path
) -> None:
    with model(name, tmp_path, "--pool-size", "1") as server, server.connect() as sock:
        sock.sendall(GET)
        assert read_lines(sock, 1) == [MISS]
        threads = {int(task.name) for task in Path(f"/proc/{server.pid}/task").iterdir()} - {server.pid}
        assert ctypes.CDLL(None).tgkill(server.pid, min(threads), number) == 0
        assert server.process.wait(20) == 0


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Future[None]]:
    directory = tmp_path_factory.mktemp("crowded")
    few = ("bash", "-c", 'ulimit -n 50; exec "$@"', "bash")

    def serve_a_crowd(name: str) -> None:
        with model(name, directory, prefix=few) as server:
            with contextlib.ExitStack() as crowd:
                for _ in range(80):
                    crowd.enter_context(server.connect())
                wait_until(lambda: len(list(Path(f"/proc/{server.process.pid}/fd").iterdir())) >= 49)
                time.sleep(0.2)  # to accept another and fail
            wait_until(server.takes_clients)  # not at once: libuv cuts off who comes while it has no descriptor
            assert server.process.poll() is None

    return side_by_side(serve_a_crowd, LOSING_NOTHING, AT_A_TIME)


@pytest.mark.server
@pytest.mark.parametrize("name", LOSING_NOTHING)
def test_more_clients_than_descriptors_do_not_end_it(name: str, crowded: dict[str, Future[None]]) -> None:
    crowded[name].result()


def test_a_model_keeps_to_what_a_model_is() -> None:
    ids = {case.id for case in CASES}
    for name in MODULES:
        module = load(name)
        assert set(module.LOSES) <= ids
        assert callable(getattr(module, "serve", None)) is (name != DEFAULT)
        assert len(Path(str(module.__file__)).read_text().splitlines()) <= 120
