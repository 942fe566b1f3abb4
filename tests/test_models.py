"""Every concurrency model from outside: the conformance table, clients at once, deaf and broken ones, stopping."""

import contextlib
import ctypes
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import in_process
import pytest
from serving import Served, read_all, read_lines, serving, wait_until

from kvss_gevent.conformance.case_plan import Plan
from kvss_gevent.conformance.cases import CASES
from kvss_gevent.conformance.running.runner import grade
from kvss_gevent.conformance.score import Scorecard
from kvss_gevent.models import DEFAULT, MODULES, describe, load

GRADED_AT_A_TIME = 6
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
ROWS = {name: describe(name) for name in MODULES}
TEXTBOOK = [name for name in MODULES if name != DEFAULT]
FORKING = [name for name in MODULES if ROWS[name].shared_store]
SEVERAL_AT_ONCE = [name for name in MODULES if name != "sequential"]

GET = b"KV/1.0 GET k\n"
MISS = b"404 NOT_FOUND"


@contextlib.contextmanager
def model(name: str, directory: Path, *flags: str, prefix: tuple[str, ...] = ()) -> Iterator[Served]:
    store = ("--store", f"disk:{directory}/{name}.kv", "--sync", "none") if name in FORKING else ()
    with serving("--model", name, *store, *flags, prefix=prefix) as server:
        yield server


def kvss(*words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kvss_gevent", *words],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "COLUMNS": "80", **(env or {})},
        check=False,
    )


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def answers(server: Served) -> bool:
    with contextlib.suppress(ConnectionError):
        return server.ask(GET) == MISS + b"\n"
    return False


def runs(pid: int) -> bool:
    """Tell whether a process runs: one that has ended and waits for somebody to ask about it does not."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Scorecard]]:
    """The scorecards of every model; several are graded beside each other, for a run is mostly waiting."""
    directory = tmp_path_factory.mktemp("graded")

    def cards_of(name: str) -> list[Scorecard]:
        loses = ROWS[name].loses
        # A case that is lost by nature times out. No other case waits for that, so a busy machine gets time.
        plans = [Plan(timeout_s=6.0, without=loses), Plan(timeout_s=2.0, only=loses)][: 2 if loses else 1]
        with model(name, directory) as server:
            return [grade("127.0.0.1", server.port, plan) for plan in plans]

    with ThreadPoolExecutor(GRADED_AT_A_TIME) as pool:
        return dict(zip(MODULES, pool.map(cards_of, MODULES), strict=True))


@pytest.mark.server
@pytest.mark.timeout(300)  # the first one waits until all are graded
@pytest.mark.parametrize("name", MODULES)
def test_it_passes_the_conformance_table_but_for_what_it_loses_by_nature(
    name: str, cards: dict[str, list[Scorecard]]
) -> None:
    assert {failure.case.id for card in cards[name] for failure in card.failures} == set(ROWS[name].loses)
    assert sum(len(card.verdicts) for card in cards[name]) > 100


@pytest.mark.server
@pytest.mark.parametrize("name", SEVERAL_AT_ONCE)
def test_a_client_that_does_not_read_blocks_nobody_and_gets_all_it_asked_for_when_it_does(
    name: str, tmp_path: Path
) -> None:
    value = b"v" * 300_000
    alone, together = 200, 30  # far more than the kernel takes for a connection, in many packets and in one
    with model(name, tmp_path) as server, server.connect(10) as deaf:
        deaf.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        assert server.ask(b"KV/1.0 PUT big " + value + b"\n") == b"201 CREATED\n"
        before_bytes = server.resident_bytes()
        for _ in range(alone):
            deaf.sendall(b"KV/1.0 GET big\n")
            time.sleep(0.002)
        deaf.sendall(b"KV/1.0 GET big\n" * together + b"KV/1.0 QUIT\n")
        for _ in range(3):
            assert server.ask(GET) == MISS + b"\n"
        assert server.resident_bytes() - before_bytes < alone * len(value) / 2
        assert read_all(deaf) == (b"200 OK " + value + b"\n") * (alone + together) + b"200 OK bye\n"


@pytest.mark.server
@pytest.mark.parametrize("name", MODULES)
def test_a_client_that_does_not_read_is_not_read_from(name: str, tmp_path: Path) -> None:
    too_many = memoryview(b"KV/1.0 GET big\n" * 4_000_000)  # 60 MB: kernels keep some 10 MB for a connection
    with model(name, tmp_path) as server:
        assert server.ask(b"KV/1.0 PUT big " + b"v" * 100_000 + b"\n") == b"201 CREATED\n"
        with server.connect(0.5) as deaf:
            sent = 0
            with contextlib.suppress(TimeoutError):
                while sent < len(too_many):
                    sent += deaf.send(too_many[sent : sent + 1_000_000])
            assert 0 < sent < len(too_many) / 2


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
            waiting.settimeout(5)
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


@pytest.mark.server
@pytest.mark.parametrize("name", [name for name in TEXTBOOK if not ROWS[name].loses])
def test_more_clients_than_descriptors_do_not_end_it(name: str, tmp_path: Path) -> None:
    few = ("bash", "-c", 'ulimit -n 50; exec "$@"', "bash")
    with model(name, tmp_path, prefix=few) as server:
        with contextlib.ExitStack() as crowd:
            for _ in range(80):
                crowd.enter_context(server.connect())
            wait_until(lambda: len(list(Path(f"/proc/{server.process.pid}/fd").iterdir())) >= 49)
            time.sleep(0.2)  # to accept another and fail
        wait_until(lambda: answers(server))  # not at once: libuv cuts off who comes while it has no descriptor
        assert server.process.poll() is None


@pytest.mark.server
@pytest.mark.parametrize("name", FORKING)
def test_no_process_outlives_a_parent_that_is_killed(name: str, tmp_path: Path) -> None:
    with model(name, tmp_path, "--pool-size", "3") as server, server.connect() as sock:
        sock.sendall(GET)
        assert read_lines(sock, 1) == [MISS]
        processes = children(server.process.pid)
        assert processes
        server.process.kill()
        server.process.wait(5)
        wait_until(lambda: not any(map(runs, processes)))


@pytest.mark.server
def test_prefork_replaces_a_process_that_dies(tmp_path: Path) -> None:
    with model("prefork", tmp_path, "--pool-size", "1") as server:
        assert server.ask(GET) == MISS + b"\n"
        (process,) = children(server.process.pid)
        os.kill(process, signal.SIGKILL)
        wait_until(lambda: children(server.process.pid) not in ([], [process]))
        assert server.ask(GET) == MISS + b"\n"


@pytest.mark.server
def test_fork_leaves_no_more_than_the_last_zombie(tmp_path: Path) -> None:
    with model("fork", tmp_path) as server:
        for _ in range(10):
            assert server.ask(GET) == MISS + b"\n"

        def reaped() -> bool:
            time.sleep(0.3)  # they end, however busy the machine is; the next client has them reaped
            return server.ask(GET) == MISS + b"\n" and len(children(server.process.pid)) < 5

        wait_until(reaped, 30)


@pytest.mark.server
def test_a_process_that_cannot_open_the_store_says_so_and_the_next_can(tmp_path: Path) -> None:
    file, away = tmp_path / "fork.kv", tmp_path / "away.kv"
    with model("fork", tmp_path) as server:
        file.rename(away)
        file.mkdir()
        assert server.ask(b"") == b""
        file.rmdir()
        away.rename(file)
        assert server.ask(GET) == MISS + b"\n"
        code, log = server.stop()
    assert code == 0
    assert log.splitlines()[0].endswith(f"ERROR a process cannot serve: {file} is a directory")
    assert "Traceback" not in log


@pytest.mark.server
def test_what_one_process_stores_another_finds(tmp_path: Path) -> None:
    with model("fork", tmp_path) as server:
        assert server.ask(b"KV/1.0 PUT k v\n") == b"201 CREATED\n"
        assert server.ask(GET) == b"200 OK v\n"


@pytest.mark.parametrize("name", FORKING)
def test_a_model_of_several_processes_refuses_a_store_that_lives_in_one(name: str) -> None:
    done = kvss("serve", "--port", "0", "--model", name)
    assert (done.returncode, done.stdout) == (2, "")
    cause, remedy = done.stderr.splitlines()
    assert cause == (
        f"kvss serve: --model {name} runs in several processes, and memory: lives in one: "
        "each client would find a store of its own"
    )
    assert "--store disk:kvss.data" in remedy


@pytest.mark.parametrize(
    ("flags", "cause", "remedy"),
    [
        (("--model", "threadz"), "--model is 'threadz'", ", ".join(MODULES)),
        (("--pool-size", "0"), "--pool-size is '0'", "1 to 1000"),
        (("--pool-size", "1001"), "--pool-size is '1001'", "1 to 1000"),
    ],
)
def test_bad_words_are_exit_code_2(flags: tuple[str, ...], cause: str, remedy: str) -> None:
    done = in_process.kvss("serve", "--port", "0", *flags)
    assert done.returncode == 2
    assert cause in done.stderr
    assert remedy in done.stderr


@pytest.mark.server
def test_an_option_without_effect_is_said_to_have_none(tmp_path: Path) -> None:
    with model("select", tmp_path, "--max-connections", "5", "--pool-size", "5") as server:
        _, log = server.stop()
    (line,) = log.splitlines()
    assert line.endswith("--max-connections (KVSS_MAX_CONNECTIONS) has no effect with --model select")


@pytest.fixture
def no_trio(tmp_path: Path) -> dict[str, str]:
    """An environment in which importing trio fails as where it is not installed."""
    (tmp_path / "trio.py").write_text("raise ModuleNotFoundError('no trio', name='trio')\n")
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))}


def test_a_model_whose_library_is_absent_is_exit_code_3(no_trio: dict[str, str]) -> None:
    done = kvss("serve", "--port", "0", "--model", "trio", env=no_trio)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == (
        "kvss serve: the model trio needs the package trio, which is not installed\n"
        "  In the checkout: pip install -e '.[lab]'\n"
    )


def test_the_table_shows_what_is_absent_and_why(no_trio: dict[str, str]) -> None:
    data = json.loads(kvss("models", "--json", env=no_trio).stdout)
    absent = [row for row in data["models"] if not row["available"]]
    assert [(row["name"], row["why_not"]) for row in absent] == [
        (
            "trio",
            "the model trio needs the package trio, which is not installed: In the checkout: pip install -e '.[lab]'",
        )
    ]
    assert "not available: the model trio needs" in kvss("models", env=no_trio).stdout


def test_the_table_shows_every_model_with_its_file_and_limits() -> None:
    done = in_process.kvss("models", env={"COLUMNS": "80"})
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) <= 80
    root = Path(__file__).parent.parent
    for name, row in ROWS.items():
        assert row.why_not == "", "the tests need the extra lab"
        assert f"\n{name} " in f"\n{done.stdout}"
        assert row.file in done.stdout
        assert (root / row.file).is_file()
        assert row.limits
        assert row.idea
        assert len(row.idea) <= 64
    data = json.loads(in_process.kvss("models", "--json").stdout)
    assert [row["name"] for row in data["models"]] == list(MODULES)
    assert data["gil"] is getattr(sys, "_is_gil_enabled", lambda: True)()
    assert any(f"the GIL is {'on' if data['gil'] else 'off'}" in limit for limit in ROWS["threads"].limits)


def test_a_model_keeps_to_what_a_model_is() -> None:
    ids = {case.id for case in CASES}
    for name in MODULES:
        module = load(name)
        assert set(module.LOSES) <= ids
        assert callable(getattr(module, "serve", None)) is (name != DEFAULT)
        assert len(Path(str(module.__file__)).read_text().splitlines()) <= 120
