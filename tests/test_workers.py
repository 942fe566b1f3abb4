"""Several worker processes, as real processes on a store that they share: replacement, drain, hanging, sums."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from serving import Served, read_all, read_lines, serving, wait_until

from kvss_gevent.protocol.stats_reply import Stats, parse_stats

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for the workers in /proc"),
]

GET = b"KV/1.0 GET a\n"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serving("--store", f"disk:{tmp_path / 'data'}", "--workers", "2") as server:
        yield server


def workers(server: Served) -> list[int]:
    """Return the pids of the workers."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    return [int(pid) for pid in children.read_text().split()]


def alive(pid: int) -> bool:
    """Whether a process runs, and is no zombie."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def ask(sock: socket.socket, request: bytes) -> bytes:
    sock.sendall(request)
    return read_lines(sock, 1)[0]


def stats(server: Served) -> Stats:
    with server.connect() as sock:
        return parse_stats(ask(sock, b"KV/1.0 STATS\n").removeprefix(b"200 OK "))


def test_all_workers_serve_one_port_and_one_store(served: Served) -> None:
    before = [open_sockets(pid) for pid in workers(served)]
    assert len(before) == 2
    socks = [served.connect() for _ in range(12)]
    try:
        assert ask(socks[0], b"KV/1.0 PUT a 1\n") == b"201 CREATED"
        assert {ask(sock, GET) for sock in socks} == {b"200 OK 1"}
        taken = []

        def all_have_clients() -> bool:
            """Whether all workers have some; one that stands still has none yet, so another client comes if not."""
            taken[:] = [open_sockets(pid) - number for pid, number in zip(workers(served), before, strict=True)]
            if min(taken) == 0:
                socks.append(served.connect())
                assert ask(socks[-1], GET) == b"200 OK 1"
            return min(taken) > 0

        wait_until(all_have_clients)
        assert sum(taken) == len(socks)
    finally:
        for sock in socks:
            sock.close()


def open_sockets(pid: int) -> int:
    links = Path(f"/proc/{pid}/fd").iterdir()
    return sum(str(link.readlink()).startswith("socket:") for link in links)


@pytest.mark.timing
def test_clients_that_come_one_after_another_are_shared_out_evenly(tmp_path: Path) -> None:
    with serving("--store", f"disk:{tmp_path / 'data'}", "--workers", "4") as server:
        before = [open_sockets(pid) for pid in workers(server)]
        socks: list[socket.socket] = []
        try:
            for _ in range(48):
                socks.append(server.connect())
                assert ask(socks[-1], GET) == b"404 NOT_FOUND"
            taken = [open_sockets(pid) - number for pid, number in zip(workers(server), before, strict=True)]
            assert sum(taken) == 48
            assert max(taken) - min(taken) <= 6  # 9 to 24 where no worker looks at the counters of the others
        finally:
            for sock in socks:
                sock.close()


def test_stats_count_over_all_workers(served: Served) -> None:
    socks = [served.connect() for _ in range(8)]
    try:
        for number, sock in enumerate(socks):
            assert ask(sock, b"KV/1.0 PUT key%d 1\n" % number) == b"201 CREATED"
            ask(sock, b"KV/1.0 GET key%d\n" % number)
            ask(sock, b"KV/1.0 DEL none\n")
            ask(sock, b"nonsense\n")
        for sock in socks:  # whichever worker answers
            found = parse_stats(ask(sock, b"KV/1.0 STATS\n").removeprefix(b"200 OK "))
            assert (found.connections, found.keys_stored) == (8, 8)
            assert (found.get_requests, found.put_requests, found.del_requests) == (8, 8, 8)
        assert found.commands_processed == 8 * 4 + 7
    finally:
        for sock in socks:
            sock.close()


def test_a_worker_that_dies_is_replaced_later_each_time(tmp_path: Path) -> None:
    with serving("--store", f"disk:{tmp_path / 'data'}", "--workers", "2") as server:
        assert server.ask(b"KV/1.0 PUT a 1\n") == b"201 CREATED\n"
        socks: list[socket.socket] = []
        for _ in range(3):
            victim, survivor = workers(server)
            socks += [server.connect() for _ in range(8)]
            for sock in socks[-8:]:
                ask(sock, GET)
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda: not alive(victim))  # noqa: B023 - called at once
            assert server.ask(GET) == b"200 OK 1\n"
            wait_until(lambda: victim not in workers(server) and len(workers(server)) == 2)  # noqa: B023
            assert survivor in workers(server)
        for sock in socks:
            sock.close()
        wait_until(lambda: stats(server).connections == 1)  # those of the dead are no longer counted
        assert stats(server).put_requests == 1  # what they had counted still is
        code, log = server.stop()
    assert code == 0
    deaths = [line for line in log.splitlines() if "ended with signal 9" in line]
    assert len(deaths) == 3
    delays: dict[str, list[str]] = {}
    for line in deaths:
        delays.setdefault(line.partition("worker ")[2].partition(" ")[0], []).append(line.rpartition(" in ")[2])
    for found in delays.values():  # each worker has its own
        assert found == ["0.1 s", "0.2 s", "0.4 s"][: len(found)]
    assert max(map(len, delays.values())) >= 2


def test_sigterm_answers_what_was_received_and_ends_all(served: Served) -> None:
    pids = workers(served)
    socks = [served.connect() for _ in range(6)]
    for sock in socks:
        ask(sock, GET)
        sock.sendall(b"KV/1.0 PUT a 1\n" * 200)
    served.process.terminate()
    for sock in socks:
        assert len(read_lines(sock, 200)) == 200
        assert sock.recv(1) == b""
        sock.close()
    assert served.process.wait(10) == 0
    assert not any(map(alive, pids))


def test_workers_that_were_signalled_themselves_drain_once(tmp_path: Path) -> None:
    """Service managers send SIGTERM to all processes of a service; the supervisor's own signal is then the second."""
    value = b"x" * 1_000_000
    flags = ("--store", f"disk:{tmp_path / 'data'}", "--workers", "2", "--log-level", "info", "--drain-timeout", "60")
    with serving(*flags) as served, ExitStack() as stack:
        socks = [stack.enter_context(served.connect()) for _ in range(4)]
        for sock in socks:
            ask(sock, b"KV/1.0 PUT a " + value + b"\n")
            sock.sendall(GET * 20)  # more than the kernel keeps: the worker drains until it is read
        for pid in workers(served):
            os.kill(pid, signal.SIGTERM)
        wait_until(lambda: served.logged().count("SIGTERM: draining") == 2)
        served.process.terminate()
        for sock in socks:
            assert read_all(sock) == (b"200 OK " + value + b"\n") * 20
        assert served.process.wait(20) == 0


def test_ctrl_c_drains_once_though_the_terminal_signals_everybody(served: Served) -> None:
    pids = workers(served)
    for pid in (served.process.pid, *pids):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT)
    assert served.process.wait(10) == 0
    assert not any(map(alive, pids))


def test_a_second_signal_ends_all_at_once(served: Served) -> None:
    pids = workers(served)
    os.kill(pids[0], signal.SIGSTOP)  # it will not drain
    served.process.send_signal(signal.SIGTERM)
    wait_until(lambda: not alive(pids[1]))
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(10) == 128 + signal.SIGTERM
    assert not any(map(alive, pids))


@pytest.mark.timing
def test_a_stopped_worker_does_not_make_new_clients_wait(served: Served) -> None:
    stopped = workers(served)[0]
    os.kill(stopped, signal.SIGSTOP)
    socks = []
    try:
        for _ in range(40):  # the other has more clients from the second on, and takes them all the same
            socks.append(served.connect(timeout_s=1.0))
            assert ask(socks[-1], GET) == b"404 NOT_FOUND"
    finally:
        os.kill(stopped, signal.SIGCONT)
        for sock in socks:
            sock.close()
    wait_until(lambda: stats(served).connections == 1)


def test_workers_end_with_their_parent_however_it_ends(served: Served) -> None:
    pids = workers(served)
    with served.connect() as sock:
        ask(sock, GET)
        served.process.kill()
        served.process.wait()
        wait_until(lambda: not any(map(alive, pids)), limit_s=10)
        assert sock.recv(1) == b""


def test_max_connections_counts_the_clients_of_all_workers(tmp_path: Path) -> None:
    with serving("--store", f"disk:{tmp_path / 'data'}", "--workers", "2", "--max-connections", "4") as server:
        socks = [server.connect() for _ in range(4)]
        assert [ask(sock, GET) for sock in socks] == [b"404 NOT_FOUND"] * 4
        with server.connect() as sock:
            assert sock.recv(100) == b"500 SERVER_ERROR\n"
        socks.pop().close()
        wait_until(server.takes_clients)
        for sock in socks:
            sock.close()


def test_a_store_that_cannot_be_had_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"this is no store" * 1000)
    started_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "kvss_gevent", "serve", "--port=0", "--workers=3", f"--store=disk:{tmp_path / 'data'}"],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (3, "")
    assert len(done.stderr.splitlines()) == 2
    assert time.monotonic() - started_s < 15


@pytest.mark.parametrize(
    "error", ["OSError(24, 'Too many open files')", "MemoryError", 'RuntimeError("can\'t start new thread")']
)
def test_what_the_system_refuses_a_worker_is_said_in_two_lines(error: str) -> None:
    refuse = f"def refuse(_):\n    raise {error}\nfrom kvss_gevent.server import run\nrun.open_store = refuse"
    serve = (
        "from kvss_gevent.cli import main\nraise SystemExit(main(['serve', '0', '--workers=2', '--store=disk:any']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{refuse}\n{serve}"], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert len(done.stderr.splitlines()) == 2


def test_memory_is_refused_and_disk_named() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "kvss_gevent", "serve", "--port", "0", "--workers", "2"],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert "memory: lives in one process" in done.stderr
    assert "disk:" in done.stderr


def test_a_worker_that_is_started_later_opens_no_other_file_and_the_log_says_so(tmp_path: Path) -> None:
    path = tmp_path / "data.kv"
    with serving("--store", f"disk:{path}", "--workers", "2", "--log-format", "json") as server:
        assert server.ask(b"KV/1.0 PUT a 1\n") == b"201 CREATED\n"
        for file in list(tmp_path.iterdir()):
            file.unlink()  # with its lock file: no trace is left of the file that is served
        for worker in workers(server):
            os.kill(worker, signal.SIGKILL)
        wait_until(lambda: "is not the file that this server has served since its start" in server.logged(), 10)
        code, log = server.stop()
        assert code == 0, log
        assert {json.loads(line)["level"] for line in log.splitlines()} == {"error", "warning", "notice"}


@pytest.mark.parametrize("dead", [1, 2])
def test_a_worker_that_is_started_later_makes_no_new_store_in_a_file_that_was_emptied(
    tmp_path: Path, dead: int
) -> None:
    path = tmp_path / "data.kv"
    with serving("--store", f"disk:{path}", "--workers", "2") as server:
        assert server.ask(b"KV/1.0 PUT a 1\n") == b"201 CREATED\n"
        os.truncate(path, 0)
        for worker in workers(server)[:dead]:
            os.kill(worker, signal.SIGKILL)
        wait_until(lambda: f"{path} was cut off at 0 bytes. Restore it" in server.logged(), 10)
        assert path.stat().st_size == 0
        code, log = server.stop()
        assert code == 0, log
