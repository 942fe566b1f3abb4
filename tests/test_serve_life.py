"""The life of `kvss serve`: signals, settings read again, a log that nobody reads, sockets of other kinds."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from served_processes import GET, LIMIT_S, process, wait_for_end
from serving import read_all, read_lines, serving, wait_until

from kvss_gevent.measure.launch import free_port


@pytest.mark.server
@pytest.mark.parametrize("workers", ["1", "2"])
def test_no_signal_ends_it_without_a_drain(workers: str, tmp_path: Path) -> None:
    with serving("--workers", workers, "--store", f"disk:{tmp_path / 'kv'}", "--sync", "none") as server:
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF):
            server.process.send_signal(number)
            assert server.ask(GET) == b"404 NOT_FOUND\n"
        wait_until(lambda: "SIGPROF has no effect here and is ignored" in server.logged())
        wait_until(lambda: "uptime: 0:00:" in server.logged())  # another worker may say it, and later
        wait_until(lambda: "read the settings again: nothing changes" in server.logged())
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(LIMIT_S) == 0
        assert re.search(r"NOTICE stopped by SIGTERM; every \w+", server.logged())


@pytest.mark.server
@pytest.mark.parametrize("model", ["threads", "asyncio", "fork"])
def test_other_models_live_through_signals_and_say_why_they_stop(model: str, tmp_path: Path) -> None:
    with serving("--model", model, "--store", f"disk:{tmp_path / 'kv'}") as server:
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM):
            server.process.send_signal(number)
            assert server.ask(GET) == b"404 NOT_FOUND\n"
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(LIMIT_S) == 0
        assert "NOTICE stopped by " in server.logged()


@pytest.mark.server
@pytest.mark.parametrize("workers", [1, 2])
def test_sighup_changes_what_can_change_and_says_what_cannot(workers: int, tmp_path: Path) -> None:
    file = tmp_path / "kvss.toml"
    file.write_text(f"workers = {workers}\nstore = 'disk:{tmp_path / 'kv'}'\nsync = 'none'\nmax-line = 200\n")
    long = b"KV/1.0 PUT k " + b"v" * 100 + b"\n"
    with serving("--config", str(file)) as server, ExitStack() as stack:
        assert server.ask(long) == b"201 CREATED\n"
        held = server.connect()
        stack.enter_context(held)
        held.sendall(GET)
        read_lines(held, 1)
        file.write_text("max-line = 50\nidle-timeout = 0.3\nstore = 'memory:'\n")
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: server.ask(long) == b"400 BAD_REQUEST\n")
        assert read_all(held) == b""  # the idle timeout counts for connections that were there before
        log = server.logged()
        assert "NOTICE --max-line changes from 200 to 50" in log
        assert "NOTICE --idle-timeout changes from 0 to 0.3" in log
        assert f"WARNING --store stays disk:{tmp_path / 'kv'}: it changes only with a restart" in log
        file.write_text("max-line = 'huge'\n")
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: f"ERROR {file}: max-line is 'huge'; the settings stay as they are." in server.logged())
        wait_until(lambda: server.ask(long) == b"400 BAD_REQUEST\n")  # another worker may hear of the first change late


@pytest.mark.server
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.timing
def test_a_log_that_nobody_reads_stops_nobody(workers: int, tmp_path: Path) -> None:
    store = ("--store", f"disk:{tmp_path / 'kv'}", "--sync", "none", "--workers", str(workers))
    with process("-vv", "--port", "0", *store, stderr=subprocess.PIPE) as running:
        assert running.stdout
        assert running.stderr
        port = int(running.stdout.readline().rpartition(b":")[2])
        with socket.create_connection(("127.0.0.1", port), LIMIT_S) as sock:
            for _ in range(100):
                sock.sendall(GET * 50)
                read_lines(sock, 50)
        os.set_blocking(running.stderr.fileno(), False)
        said = running.stderr.read(1 << 17)  # now there is room for a line again
        assert said
        with socket.create_connection(("127.0.0.1", port), LIMIT_S) as sock:
            sock.sendall(GET)
            read_lines(sock, 1)
        started_s = time.monotonic()
        assert wait_for_end(running) == 0
        assert time.monotonic() - started_s < 4
        said += running.stderr.read() or b""
        assert re.search(rb" WARNING \d{3,} lines of this log were lost: nobody took them\n", said)


@pytest.mark.server
def test_a_log_reader_that_is_gone_stops_nobody() -> None:
    reading, writing = os.pipe()
    with process("-vv", "--port", "0", stderr=writing) as running:
        os.close(writing)
        assert running.stdout
        port = int(running.stdout.readline().rpartition(b":")[2])
        os.close(reading)
        with socket.create_connection(("127.0.0.1", port), LIMIT_S) as sock:
            sock.sendall(GET * 500)
            read_lines(sock, 500)
        assert wait_for_end(running) == 0


@pytest.mark.server
def test_a_log_file_is_shared_with_other_writers(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    with log.open("a") as stream, process("--port", "0", "-v", stderr=stream) as running:
        assert running.stdout
        assert running.stdout.readline()
        stream.write("between\n")
        stream.flush()
        assert wait_for_end(running) == 0
    assert [line.rpartition(" ")[2] for line in log.read_text().splitlines()][:2] == ["before", "between"]
    assert "NOTICE stopped by SIGTERM" in log.read_text()


def accepts(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.server
def test_closed_standard_descriptors_are_never_the_data_file(tmp_path: Path) -> None:
    data = tmp_path / "kv"
    port = free_port()
    command = f"exec {sys.executable} -m kvss_gevent serve {port} -vv --store disk:{data} <&- >&- 2>&-"
    with subprocess.Popen(["bash", "-c", command]) as running:
        try:
            wait_until(lambda: accepts(port), LIMIT_S)
            for descriptor in range(3):
                assert Path(f"/proc/{running.pid}/fd/{descriptor}").readlink() == Path("/dev/null")
            with socket.create_connection(("127.0.0.1", port), LIMIT_S) as sock:
                sock.sendall(b"KV/1.0 PUT a 1\n" + GET)
                assert read_lines(sock, 2) == [b"201 CREATED", b"200 OK 1"]
            running.terminate()
            assert running.wait(LIMIT_S) == 0
        finally:
            running.kill()
    with serving("--store", f"disk:{data}") as server:
        assert server.ask(GET) == b"200 OK 1\n"


@pytest.mark.server
def test_the_log_as_json(tmp_path: Path) -> None:
    with serving("--log-format", "json", "--log-level", "info") as server:
        server.ask(GET)
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(LIMIT_S)
        lines = [json.loads(line) for line in server.logged().splitlines()]
    assert {line["pid"] for line in lines} == {server.process.pid}
    assert lines[0]["level"] == "info"
    assert lines[-1]["level"] == "notice"
    assert lines[-1]["message"].startswith("stopped by SIGTERM")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", lines[0]["time"])


@pytest.mark.server
def test_an_option_of_another_store_is_said_to_have_no_effect(tmp_path: Path) -> None:
    with serving("--max-disk", "5M", "--replicas-ack", "1", "--max-memory", "1M") as server:
        assert server.process.poll() is None
        assert re.findall(r"--\S+ \(\w+\) has no effect with .*", server.logged()) == [
            "--max-disk (KVSS_MAX_DISK) has no effect with --store memory:",
            "--replicas-ack (KVSS_REPLICAS_ACK) has no effect with --store memory:",
        ]
    with serving("--max-memory", "1M", "--store", f"disk:{tmp_path / 'kv'}", "--sync", "none") as server:
        assert "--max-memory (KVSS_MAX_MEMORY) has no effect with --store disk:" in server.logged()
        assert "--sync" not in server.logged()


@pytest.mark.server
def test_the_log_says_which_clients_left_because_the_server_stops() -> None:
    with serving("-v") as server, server.connect() as stays:
        assert server.ask(GET) == b"404 NOT_FOUND\n"
        wait_until(lambda: "gone: it closed" in server.logged())
        stays.sendall(GET)
        assert read_lines(stays, 1) == [b"404 NOT_FOUND"]
        _, log = server.stop()
    assert log.count("gone: it closed") == 1
    assert log.count("gone: the server stops") == 1
