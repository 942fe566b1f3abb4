"""The concurrency models of several processes: who ends and replaces them, and the store that they share."""

import os
import signal
import time
from pathlib import Path

import pytest
from model_servers import FORKING, GET, MISS, children, model, runs
from serving import read_lines, wait_until


@pytest.mark.server
@pytest.mark.parametrize("name", FORKING)
def test_no_process_outlives_a_parent_that_is_killed(name: str, tmp_path: Path) -> None:
    with model(name, tmp_path, "--pool-size", "3") as server, server.connect() as sock:
        sock.sendall(GET)
        assert read_lines(sock, 1) == [MISS]
        processes = children(server.process.pid)
        assert processes
        server.process.kill()
        server.process.wait(20)
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
