"""The real server from outside: limits, fairness, memory, running out of descriptors."""

import os
import re
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
from serving import read_all, read_lines, serving, wait_until

pytestmark = pytest.mark.server


def reads_end(sock: socket.socket) -> bool:
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


def test_the_course_documents_session() -> None:
    with serving() as server:
        replies = server.ask(
            b"KV/1.0 PUT name John\nKV/1.0 GET name\nKV/1.0 PUT name Jane\nKV/1.0 GET name\nKV/1.0 DEL name\n"
            b"KV/1.0 GET name\nKV/1.0 GET\nWRONG/1.0 GET test\nKV/1.0 STATS\nKV/1.0 QUIT\nKV/1.0 PUT late x\n"
        ).splitlines()
        assert replies[:8] == [
            b"201 CREATED",
            b"200 OK John",
            b"200 OK",
            b"200 OK Jane",
            b"204 NO_CONTENT",
            b"404 NOT_FOUND",
            b"400 BAD_REQUEST",
            b"426 UPGRADE_REQUIRED",
        ]
        assert replies[8].startswith(b"200 OK uptime: 0:00:0")
        assert replies[8].endswith(
            b"; connections: 1; commands_processed: 8; "
            b"get_requests: 3; put_requests: 2; del_requests: 1; keys_stored: 0"
        )
        assert replies[9:] == [b"200 OK bye"]
        assert server.ask(b"KV/1.0 GET late\n") == b"404 NOT_FOUND\n"


def test_one_connection_too_many_gets_500_and_is_closed_and_room_made_is_room_again() -> None:
    with serving("--max-connections", "2") as server:
        first, second = server.connect(), server.connect()
        for sock in (first, second):
            sock.sendall(b"KV/1.0 GET a\n")
            assert read_lines(sock, 1) == [b"404 NOT_FOUND"]
        with server.connect() as third:
            assert read_all(third) == b"500 SERVER_ERROR\n"
        first.close()
        wait_until(server.takes_clients)
        second.close()


def test_a_refused_client_that_has_already_sent_still_reads_its_500() -> None:
    with serving("--max-connections", "1") as server, server.connect() as only:
        only.sendall(b"KV/1.0 GET a\n")
        read_lines(only, 1)
        for _ in range(50):
            with server.connect() as extra:
                extra.sendall(b"KV/1.0 GET a\n")
                assert extra.recv(100) == b"500 SERVER_ERROR\n"


@pytest.mark.timing
def test_a_half_sent_line_is_ended_even_when_it_drips() -> None:
    with serving("--line-timeout", "0.5") as server, server.connect() as sock, server.connect() as other:
        began_s = time.monotonic()
        ended = threading.Event()

        def drip() -> None:
            while not ended.wait(0.05):
                try:
                    sock.sendall(b"K")
                except OSError:
                    return

        dripping = threading.Thread(target=drip)
        dripping.start()
        assert reads_end(sock)
        ended.set()
        dripping.join()
        assert 0.5 <= time.monotonic() - began_s < 5
        other.sendall(b"KV/1.0 GET a\n")  # whole lines with long pauses between are no half-sent lines
        assert read_lines(other, 1) == [b"404 NOT_FOUND"]


@pytest.mark.timing
def test_an_idle_client_is_ended_only_if_asked_for() -> None:
    with serving("--idle-timeout", "0.4") as server, server.connect() as idle, server.connect() as busy:
        for _ in range(12):
            busy.sendall(b"KV/1.0 GET a\n")
            assert read_lines(busy, 1) == [b"404 NOT_FOUND"]
            time.sleep(0.1)
        assert reads_end(idle)


def test_a_client_that_takes_no_replies_is_ended_and_cost_the_others_nothing() -> None:
    with serving("--write-timeout", "1", "-v") as server:
        server.ask(b"KV/1.0 PUT big " + b"x" * 900_000 + b"\n")
        before = server.resident_bytes()
        with server.connect() as deaf:
            deaf.sendall(b"KV/1.0 GET big\n" * 4000)
            sizes = []

            def ended() -> bool:
                sizes.append(server.resident_bytes() - before)
                return b"connections: 1;" in server.ask(b"KV/1.0 STATS\n")

            wait_until(ended)
        assert max(sizes) < 64 << 20
        _, log = server.stop()
        assert "it took no reply for 1 s" in log


def test_a_burst_of_gets_for_a_large_value_is_answered_whole_in_bounded_memory() -> None:
    with serving() as server:
        server.ask(b"KV/1.0 PUT big " + b"x" * 900_000 + b"\n")
        before = server.resident_bytes()
        peak = 0
        with server.connect(30) as sock:
            sock.sendall(b"KV/1.0 GET big\n" * 300)
            received = 0
            while received < 300 * 900_008:
                received += len(sock.recv(1 << 20))
                peak = max(peak, server.resident_bytes() - before)
        assert received == 300 * 900_008
        assert peak < 64 << 20


def test_replies_larger_than_all_buffers_arrive_whole() -> None:
    value = b"".join(b"%07d," % number for number in range(120_000))
    with serving("--max-unsent", "16M") as server:  # one send of 7.7 MB, more than the kernel takes at once
        server.ask(b"KV/1.0 PUT big " + value + b"\n")
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.settimeout(10)
            sock.connect(("127.0.0.1", server.port))
            sock.sendall(b"KV/1.0 GET big\n" * 8 + b"KV/1.0 QUIT\n")
            time.sleep(0.2)
            assert read_all(sock) == (b"200 OK " + value + b"\n") * 8 + b"200 OK bye\n"


def test_a_long_pipeline_is_interrupted_for_others() -> None:
    with serving("-vv") as server, server.connect() as long, server.connect() as single:
        single.sendall(b"KV/1.0 GET a\n")
        read_lines(single, 1)
        # The first two are for the server's receive buffer, which grows to the size of a packet. Of the others one that
        # is interrupted is enough: this process may lose its core behind a first reply, and come too late.
        runs = [b"grow", b"grow", *[b"run%d" % number for number in range(6)]]
        for run in runs:
            long.sendall(b"KV/1.0 GET %b\n" % run * 3000)  # six slices, each some milliseconds long with this log
            assert long.recv(1) == b"4"
            single.sendall(b"KV/1.0 GET between\n")
            assert read_lines(single, 1) == [b"404 NOT_FOUND"]
            read_lines(long, 3000)
        _, log = server.stop()
        order = re.findall(r"GET '(run\d+|between)'", log)
        assert order.count("run0") == 3000
        inside = [place for place in range(1, len(order) - 1) if order[place - 1] == order[place + 1] != "between"]
        assert any(order[place] == "between" for place in inside)


def test_without_descriptors_it_refuses_without_noise_and_recovers() -> None:
    shell = ("sh", "-c", 'ulimit -Sn 80; ulimit -Hn 80; exec "$@"', "sh")
    with serving("--max-connections", "1000", prefix=shell) as server:
        # The server lowered its limit to fit: open descriptors behind its back by using up the lowered number.
        held = [server.connect() for _ in range(16)]
        for sock in held:
            sock.sendall(b"KV/1.0 GET a\n")
            read_lines(sock, 1)
        refused = [server.connect() for _ in range(100)]
        assert all(read_all(sock) == b"500 SERVER_ERROR\n" for sock in refused)
        for sock in held + refused:
            sock.close()
        wait_until(server.takes_clients)
        code, log = server.stop()
        assert code == 0
        assert "lowered from 1000 to 16: the limit of open files is 80" in log
        assert log.count("\n") < 10


@pytest.mark.parametrize(
    ("limit", "log"),
    [(70, r"\S+ \S+ WARNING no more than \d clients fit: the limit of open files is 70\n"), (1024, "")],
)
def test_a_limit_that_leaves_room_for_few_clients_is_told_though_no_number_was_asked_for(limit: int, log: str) -> None:
    shell = ("sh", "-c", f'ulimit -Sn {limit}; ulimit -Hn {limit}; exec "$@"', "sh")
    with serving(prefix=shell) as server:
        assert server.takes_clients()
        assert re.fullmatch(log, server.stop()[1])


def test_when_descriptors_run_out_all_the_same() -> None:
    with serving() as server:
        # A limit lowered from outside after the start stands for whatever else may use up the descriptors.
        import resource

        _, hard = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (40, hard))
        socks = [server.connect() for _ in range(120)]
        for sock in socks:
            sock.sendall(b"KV/1.0 GET a\n")
        replies = [sock.recv(100) for sock in socks]
        assert set(replies) == {b"404 NOT_FOUND\n", b"500 SERVER_ERROR\n"}
        before_s = cpu_s(server.process.pid)
        time.sleep(0.5)
        assert cpu_s(server.process.pid) - before_s < 0.25  # no busy loop
        for sock in socks:
            sock.close()
        wait_until(server.takes_clients)
        _, log = server.stop()
        assert log.count("WARNING refused a connection") == 1
        assert "Too many open files" in log


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_reset_is_no_traceback() -> None:
    with serving("-v") as server:
        for _ in range(20):
            sock = server.connect()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            sock.sendall(b"KV/1.0 GET a\nKV/1.0 G")
            sock.close()
        assert server.ask(b"KV/1.0 GET a\n") == b"404 NOT_FOUND\n"
        code, log = server.stop()
        assert code == 0
        assert "Traceback" not in log
        assert "ERROR" not in log


def test_the_log_shows_commands_but_no_value_and_no_raw_control_character() -> None:
    with serving("-vv") as server:
        server.ask(b"KV/1.0 PUT k\x1b[31m secret\nKV/1.0 GET k\x1b[31m\nPUT other secret\nKV/1.0 STATS\n")
        _, log = server.stop()
        assert r"PUT 'k\x1b[31m' -> 201" in log
        assert r"GET 'k\x1b[31m' -> 200" in log
        assert "refused -> 426 UPGRADE_REQUIRED" in log
        assert "STATS -> 200" in log
        assert "secret" not in log
        assert "\x1b" not in log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(number: int) -> None:
    with serving() as server:
        idle, asked = server.connect(), server.connect()
        asked.sendall(b"KV/1.0 PUT a 1\n")
        read_lines(asked, 1)
        asked.sendall(b"KV/1.0 GET a\n" * 1000)
        server.process.send_signal(number)
        assert read_all(asked) == b"200 OK 1\n" * 1000
        assert read_all(idle) == b""
        assert server.process.wait(5) == 0
        with pytest.raises(ConnectionRefusedError):
            server.connect()
        idle.close()
        asked.close()


@pytest.mark.timing
def test_a_client_that_does_not_read_does_not_hold_up_the_end_for_longer_than_allowed() -> None:
    with serving("--drain-timeout", "0.5") as server:
        server.ask(b"KV/1.0 PUT big " + b"x" * 900_000 + b"\n")
        with server.connect() as deaf:
            deaf.sendall(b"KV/1.0 GET big\n" * 100)
            time.sleep(0.3)
            began_s = time.monotonic()
            code, log = server.stop()
            assert code == 0
            assert 0.5 <= time.monotonic() - began_s < 4
            assert "--drain-timeout (0.5 s)" in log


def test_a_second_signal_ends_it_at_once() -> None:
    with serving("--drain-timeout", "30", "-v") as server:
        server.ask(b"KV/1.0 PUT big " + b"x" * 900_000 + b"\n")
        with server.connect() as deaf:
            deaf.sendall(b"KV/1.0 GET big\n" * 100)
            time.sleep(0.3)
            server.process.send_signal(signal.SIGTERM)
            wait_until(lambda: "SIGTERM: draining" in server.logged())
            assert server.process.poll() is None
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(20) == 128 + signal.SIGTERM
