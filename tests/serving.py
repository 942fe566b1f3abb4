"""Starts real `kvss serve` processes for tests and talks to them with plain sockets."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

START_LIMIT_S = 20.0


@dataclass
class Served:
    """A running server: its process, which the test may signal, and the port it listens on."""

    process: subprocess.Popen[str]
    port: int
    log: IO[str]

    def connect(self, timeout_s: float = 5.0) -> socket.socket:
        """Return a connection whose every call is bounded by timeout_s."""
        return socket.create_connection(("127.0.0.1", self.port), timeout_s)

    def ask(self, request: bytes) -> bytes:
        """Send bytes on a connection of their own, close the sending side, return all replies."""
        with self.connect() as sock:
            sock.sendall(request)
            sock.shutdown(socket.SHUT_WR)
            return read_all(sock)

    def stop(self, limit_s: float = 10.0, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal; return the exit code and what was logged before the line that says why it stopped."""
        self.process.send_signal(number)
        code = self.process.wait(limit_s)
        self.log.seek(0)
        return code, without_stop_line(self.log.read())

    def resident_bytes(self) -> int:
        """Return the server's resident memory."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def without_stop_line(log: str) -> str:
    """Return a log without the line that says when and why a server has stopped."""
    return re.sub(r"\S+ \S+ NOTICE stopped .*\n", "", log)


@contextlib.contextmanager
def serving(*flags: str, env: dict[str, str] | None = None, prefix: tuple[str, ...] = ()) -> Iterator[Served]:
    """Run a server on a free port until the block ends; prefix is put before the command, as a shell's ulimit is."""
    # A file and not a pipe: a full pipe that nobody reads would stop the server.
    log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed below
    process = subprocess.Popen(
        [*prefix, sys.executable, "-m", "kvss_gevent", "serve", "--port", "0", *flags],
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        env={**os.environ, **(env or {})},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        match = re.fullmatch(r"kvss: listening on \S+:(\d+)\n", line)
        if not match:
            process.kill()
            process.wait()
            log.seek(0)
            raise AssertionError(f"no server: {line!r} {log.read()}")
        yield Served(process, int(match[1]), log)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process.stdout:
            process.stdout.close()
        log.close()


def read_all(sock: socket.socket) -> bytes:
    """Receive until the peer closes."""
    parts = []
    while part := sock.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


def read_lines(sock: socket.socket, number: int) -> list[bytes]:
    """Receive exactly this many lines."""
    data = b""
    while data.count(b"\n") < number:
        part = sock.recv(1 << 16)
        assert part, f"closed after {data!r}"
        data += part
    return data.split(b"\n")[:-1]


def wait_until(condition, limit_s: float = 5.0) -> None:  # type: ignore[no-untyped-def]
    """Wait until condition() is true, asking often; fail after limit_s."""
    deadline_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.01)
