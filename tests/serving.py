"""Starts real `kvss serve` processes for tests and talks to them with plain sockets."""

import contextlib
import re
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

from kvss_gevent.measure import process_usage
from kvss_gevent.measure.launch import Launched, kvss, launched


@dataclass(frozen=True, slots=True)
class Served(Launched):
    """A running server: its process, which the test may signal, and the port it listens on."""

    def connect(self, timeout_s: float = 20.0) -> socket.socket:
        """Return a connection whose every call is bounded by timeout_s, which keeps a test from hanging."""
        return Launched.connect(self, timeout_s)

    def ask(self, request: bytes) -> bytes:
        """Send bytes on a connection of their own, close the sending side, return all replies."""
        with self.connect() as sock:
            sock.sendall(request)
            sock.shutdown(socket.SHUT_WR)
            return read_all(sock)

    def takes_clients(self) -> bool:
        """Whether a new client is served. One that is refused may be cut off at any moment, and not read its 500."""
        with contextlib.suppress(OSError):
            return self.ask(b"KV/1.0 GET none\n") == b"404 NOT_FOUND\n"
        return False

    def stop(self, limit_s: float = 30.0, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal; return the exit code and what was logged before the line that says why it stopped."""
        self.process.send_signal(number)
        code = self.process.wait(limit_s)
        return code, without_stop_line(self.logged())

    def resident_bytes(self) -> int:
        """Return the server's resident memory."""
        return process_usage.resident_bytes(self.pid)


def without_stop_line(log: str) -> str:
    """Return a log without the line that says when and why a server has stopped."""
    return re.sub(r"\S+ \S+ NOTICE stopped .*\n", "", log)


@contextlib.contextmanager
def serving(*flags: str, env: dict[str, str] | None = None, prefix: tuple[str, ...] = ()) -> Iterator[Served]:
    """Run a server on a free port until the block ends; prefix is put before the command, as a shell's ulimit is."""
    with launched([*prefix, *kvss(*flags)], env=env) as server:
        yield Served(server.process, server.port, server.log)


@contextlib.contextmanager
def deaf_port() -> Iterator[int]:
    """Keep a port at which nobody listens, and that nobody else gets meanwhile."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


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


def patient(command: str, port: str) -> str:
    """Return a shell command that waits for its server where it sleeps for a time that is enough on a quiet machine."""
    return re.sub(r"& sleep \d;", f"& until (: </dev/tcp/127.0.0.1/{port}) 2>/dev/null; do sleep 0.1; done;", command)


def wait_until(condition, limit_s: float = 20.0) -> None:  # type: ignore[no-untyped-def]
    """Wait until condition() is true, asking often; fail after limit_s."""
    deadline_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.01)
