"""Sockets other than a port: Unix sockets, and those that a service manager gives."""

import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from served_processes import GET, LIMIT_S, process, wait_for_end
from serving import read_all, serving, wait_until


def ask_unix(path: Path, request: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(LIMIT_S)
        sock.connect(str(path))
        sock.sendall(request)
        sock.shutdown(socket.SHUT_WR)
        return read_all(sock)


@pytest.mark.server
@pytest.mark.parametrize("words", [["unix:{}"], ["--unix", "{}"], ["--unix", "{}", "--model", "threads"]])
def test_a_unix_socket(words: list[str], tmp_path: Path) -> None:
    path = tmp_path / "kvss.sock"
    with process(*(word.format(path) for word in words), "-v", stderr=subprocess.PIPE) as running:
        assert running.stdout
        assert running.stderr
        assert running.stdout.readline() == f"kvss: listening on unix:{path}\n".encode()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert ask_unix(path, b"KV/1.0 PUT a 1\n" + GET) == b"201 CREATED\n200 OK 1\n"
        second = subprocess.run(
            [sys.executable, "-m", "kvss_gevent", "serve", f"unix:{path}"], capture_output=True, timeout=20, check=False
        )
        assert second.returncode == 3
        assert b"Another server uses it" in second.stderr
        assert wait_for_end(running) == 0
        assert not path.exists()


@pytest.mark.server
def test_a_unix_socket_that_a_killed_server_left_is_replaced_and_a_file_is_not(tmp_path: Path) -> None:
    path = tmp_path / "kvss.sock"
    for _ in range(2):
        with process(f"unix:{path}") as running:
            assert running.stdout
            assert running.stdout.readline()
            running.kill()
            running.wait()
        assert path.exists()
    path.unlink()
    path.write_text("mine")
    with process(f"unix:{path}", stderr=subprocess.PIPE) as running:
        assert running.wait(LIMIT_S) == 3
        assert running.stderr
        assert b"no socket: give another path" in running.stderr.read()
    assert path.read_text() == "mine"


PASS_ON = 'import os, sys; os.environ["LISTEN_PID"] = str(os.getpid()); os.execv(sys.executable, sys.argv[1:])'
"""What a service manager does between fork and exec."""


def activated(listener: socket.socket, *args: str) -> "subprocess.Popen[bytes]":
    """Start `kvss serve` with a listening socket as a service manager passes it, as descriptor 3."""

    def move() -> None:
        os.dup2(listener.fileno(), 3)

    command = [sys.executable, "-c", PASS_ON, sys.executable, "-m", "kvss_gevent", "serve", *args]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "LISTEN_FDS": "1"},
        close_fds=False,
        preexec_fn=move,  # noqa: PLW1509 - the test's other thread only connects
    )


def restart_under_load(restarts: int) -> tuple[int, list[str]]:
    """Restart an activated server while a client connects again and again; return its connects and its errors."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    port = listener.getsockname()[1]
    stopping, connects, errors = threading.Event(), 0, []

    def load() -> None:
        nonlocal connects
        while not stopping.is_set():
            try:
                with socket.create_connection(("127.0.0.1", port), LIMIT_S) as sock:
                    connects += 1
                    sock.sendall(GET)
                    if sock.recv(100) not in (b"404 NOT_FOUND\n", b""):
                        errors.append("a wrong reply")
            except ConnectionRefusedError as error:
                errors.append(str(error))
            except (ConnectionResetError, BrokenPipeError):
                pass  # the server has ended between its accept and the request
            time.sleep(0.001)

    client = threading.Thread(target=load)
    try:
        for number in range(restarts):
            server = activated(listener)
            assert server.stdout
            assert server.stdout.readline() == f"kvss: listening on 127.0.0.1:{port}\n".encode()
            if number == 0:
                client.start()
            seen = connects
            wait_until(lambda: connects > seen + 1)  # noqa: B023 - called at once
            server.terminate()
            assert server.wait(LIMIT_S) == 0
            server.stdout.close()
    finally:
        stopping.set()
        listener.close()  # whoever waits for the next server is let go
        client.join()
    return connects, [error for error in errors[:-1] if error]


@pytest.mark.server
@pytest.mark.parametrize("restarts", [3, pytest.param(100, marks=[pytest.mark.full, pytest.mark.timeout(300)])])
def test_a_socket_of_the_service_manager_refuses_nobody_at_a_restart(restarts: int) -> None:
    connects, errors = restart_under_load(restarts)
    assert errors == []
    assert connects > restarts


@pytest.mark.server
def test_sockets_of_another_process_are_left_alone_and_two_are_refused(tmp_path: Path) -> None:
    gone = str(tmp_path / "no manager listens here")
    with serving(env={"LISTEN_FDS": "1", "LISTEN_PID": "1", "NOTIFY_SOCKET": gone}) as server:
        assert server.ask(GET) == b"404 NOT_FOUND\n"
    done = subprocess.run(
        [sys.executable, "-c", PASS_ON, sys.executable, "-m", "kvss_gevent", "serve"],
        env={**os.environ, "LISTEN_FDS": "2"}, capture_output=True, timeout=20, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith(b"kvss serve: the service manager passes 2 sockets\n")


@pytest.mark.server
@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_service_manager_hears_when_it_is_ready_reloads_and_stops(workers: str, tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(LIMIT_S)
        store = f"disk:{tmp_path / 'kv'}"
        with serving("--workers", workers, "--store", store, env={"NOTIFY_SOCKET": path}) as server:
            assert manager.recv(1000) == b"READY=1"
            server.process.send_signal(signal.SIGHUP)
            assert re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=\d+", manager.recv(1000))
            assert manager.recv(1000) == b"READY=1"
            server.process.terminate()
            assert manager.recv(1000) == b"STOPPING=1"
