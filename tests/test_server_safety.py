"""The server under clients that hold memory, read slowly or come in crowds, and after it stood still itself."""

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from serving import Served, read_all, read_lines, serving, wait_until

pytestmark = pytest.mark.server

MIB = 1 << 20


@contextlib.contextmanager
def clients(server: Served, number: int) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(server.connect()) for _ in range(number)]


def send_quietly(sock: socket.socket, data: bytes) -> None:
    """Send, also where the server cuts this client off meanwhile."""
    with contextlib.suppress(OSError):
        sock.sendall(data)


def answered_in_s(server: Served) -> float:
    with server.connect() as sock:
        started_s = time.monotonic()
        sock.sendall(b"KV/1.0 GET none\n")
        assert read_lines(sock, 1) == [b"404 NOT_FOUND"]
        return time.monotonic() - started_s


@pytest.mark.timing
@pytest.mark.parametrize("step", [1 << 16, 400], ids=["at once", "dripping"])
def test_half_lines_of_all_clients_together_have_a_bound(step: int) -> None:
    with serving("--max-client-memory", "64M") as server, clients(server, 200) as crowd:
        before_bytes = server.resident_bytes()
        line = b"KV/1.0 PUT k " + b"x" * (MIB - 20)
        for sock in crowd:
            if step == 400:
                sock.settimeout(5)
            send_quietly(sock, line)
        time.sleep(1.5)
        assert server.resident_bytes() - before_bytes < 120 * MIB
        assert answered_in_s(server) < 0.5
        assert server.stop()[0] == 0
        assert "all clients together used more than --max-client-memory, 67108864 bytes" in server.logged()


@pytest.mark.timing
def test_replies_that_nobody_takes_have_a_bound_and_others_are_answered() -> None:
    with serving("--max-client-memory", "64M", "--drain-timeout", "1") as server:
        server.ask(b"KV/1.0 PUT k " + b"x" * (MIB - 20) + b"\n")
        before_bytes = server.resident_bytes()
        with clients(server, 300) as crowd:
            for sock in crowd:
                send_quietly(sock, b"KV/1.0 GET k\n" * 4)
            assert max(answered_in_s(server) for _ in range(5)) < 1
            assert server.resident_bytes() - before_bytes < 120 * MIB
            started_s = time.monotonic()
            code, _ = server.stop()
            assert code == 0
            assert time.monotonic() - started_s < 4


def test_quiet_clients_keep_nothing_of_their_last_requests_and_replies() -> None:
    with serving() as server, clients(server, 60) as crowd:
        for sock in crowd[:10]:
            assert_big_values_pass(sock)
        before_bytes = server.resident_bytes()
        for sock in crowd:
            assert_big_values_pass(sock)
        wait_until(lambda: server.resident_bytes() - before_bytes < 15 * MIB, 10)


def assert_big_values_pass(sock: socket.socket) -> None:
    value = b"x" * (MIB - 20)
    sock.sendall(b"KV/1.0 PUT k %b\n" % value)
    assert read_lines(sock, 1)[0][:3] in {b"200", b"201"}
    sock.sendall(b"KV/1.0 GET k\n")
    assert read_lines(sock, 1) == [b"200 OK %b" % value]


@pytest.mark.full
def test_who_reads_slowly_but_steadily_is_not_cut_off() -> None:
    with serving("--write-timeout", "1") as server:
        value = b"x" * (MIB - 20)
        server.ask(b"KV/1.0 PUT k " + value + b"\n")
        with server.connect() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 10)
            sock.sendall(b"KV/1.0 GET k\n" * 2)
            received = 0
            deadline_s = time.monotonic() + 4
            while time.monotonic() < deadline_s:  # 80 KB/s
                part = sock.recv(4 << 10)
                assert part
                received += len(part)
                time.sleep(0.05)
            sock.settimeout(5)
            while received < 2 * (len(value) + 8):
                part = sock.recv(1 << 20)
                assert part
                received += len(part)


def test_who_reads_nothing_is_cut_off() -> None:
    with serving("--write-timeout", "1", "-v") as server:
        server.ask(b"KV/1.0 PUT k " + b"x" * (MIB - 20) + b"\n")
        with server.connect() as sock:
            sock.sendall(b"KV/1.0 GET k\n" * 8)
            wait_until(lambda: "it took no reply for 1 s" in server.logged(), limit_s=10)
            with pytest.raises(ConnectionResetError):
                read_all(sock)


@pytest.mark.full
def test_after_standing_still_the_server_reads_before_it_judges() -> None:
    with serving("--idle-timeout", "2") as server, server.connect() as sock:
        sock.sendall(b"KV/1.0 GET a\n")
        assert read_lines(sock, 1) == [b"404 NOT_FOUND"]
        os.kill(server.pid, signal.SIGSTOP)
        try:
            time.sleep(1)
            sock.sendall(b"KV/1.0 GET a\n")
            time.sleep(3)
        finally:
            os.kill(server.pid, signal.SIGCONT)
        assert read_lines(sock, 1) == [b"404 NOT_FOUND"]
        sock.sendall(b"KV/1.0 GET a\n")
        assert read_lines(sock, 1) == [b"404 NOT_FOUND"]


@pytest.mark.full
@pytest.mark.timing
def test_a_storm_of_connections_does_not_keep_an_honest_client_from_several_workers(tmp_path: object) -> None:
    with serving("--workers", "2", "--store", f"disk:{tmp_path}/data", "--sync", "none") as server:
        over = threading.Event()

        def storm() -> None:
            while not over.is_set():
                with contextlib.suppress(OSError), server.connect() as sock:
                    sock.sendall(b"KV/1.0 GET a\n")
                    sock.recv(100)

        crowd = [threading.Thread(target=storm) for _ in range(16)]
        for thread in crowd:
            thread.start()
        time.sleep(0.5)
        took = sorted(answered_in_s(server) for _ in range(20))
        over.set()
        for thread in crowd:
            thread.join()
        assert took[10] < 0.25  # this process shares its interpreter with the storm
