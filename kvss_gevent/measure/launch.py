"""Starts a server as a process of its own, waits until it listens, and ends it within bounds."""

import contextlib
import os
import re
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Final

from kvss_gevent.models.processes import end_with
from kvss_gevent.settings.variables import PREFIX

START_LIMIT_S: Final = 40.0
STOP_LIMIT_S: Final = 10.0
_ANNOUNCED = re.compile(r"listening on \S+:(\d+)$")


class LaunchError(Exception):
    """A server does not run. The message says why."""


@dataclass(frozen=True, slots=True)
class Launched:
    """A server that listens on loopback: its process, its port, and the file that takes what it logs."""

    process: "subprocess.Popen[str]"
    port: int
    log: IO[str]

    @property
    def pid(self) -> int:
        """The id of its process."""
        return self.process.pid

    def connect(self, timeout_s: float = 5.0) -> socket.socket:
        """Return a connection whose every call is bounded by timeout_s."""
        return socket.create_connection(("127.0.0.1", self.port), timeout_s)

    def logged(self) -> str:
        """Return what it has logged so far."""
        return _text(self.log)


@contextlib.contextmanager
def launched(
    command: Sequence[str],
    *,
    port: int | None = None,
    processors: Collection[int] = (),
    env: Mapping[str, str] | None = None,
) -> Iterator[Launched]:
    """Run a server until the block ends; it ends with this process, too. Raises LaunchError.

    Without a port, the server chooses one and prints `listening on HOST:PORT` on its stdout, as all servers here do.
    With a port, it counts as listening once it accepts a connection there. processors: those it may run on; None is
    all. Settings in the environment, such as KVSS_STORE, are for other servers: only those in env are given.
    """
    # A file and not a pipe: a full pipe that nobody reads would stop the server.
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            list(command),
            stdout=subprocess.PIPE if port is None else log,
            stderr=log,
            text=True,
            env={**_without_settings(os.environ), **(env or {})},
            preexec_fn=_preparing(processors),  # noqa: PLW1509 - whoever starts servers has no threads yet
        )
        try:
            yield Launched(process, _announced(process, log) if port is None else _accepted(process, port, log), log)
        finally:
            end(process)


def end(process: "subprocess.Popen[str]") -> None:
    """Tell a process to stop, and kill it if it has not ended after STOP_LIMIT_S."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout is not None:
        process.stdout.close()


def free_port() -> int:
    """Return a port nobody listens on, and that nobody else is given while this process runs."""
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a server that sets it, too, may listen there
    holder.bind(("127.0.0.1", 0))
    port = int(holder.getsockname()[1])
    holder.detach()  # it stays open
    return port


def kvss(*flags: str, port: int = 0) -> list[str]:
    """Return the command of this project's server on loopback. With port 0 the server chooses one."""
    return [sys.executable, "-m", "kvss_gevent", "serve", "--port", str(port), *flags]


def redis(port: int) -> list[str]:
    """Return the command of redis-server, with nothing written to disk."""
    return ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]


def two_processors() -> tuple[set[int], set[int]]:
    """Return the first processor, for a server, and another one for its generator; none if there is only one."""
    mine = sorted(os.sched_getaffinity(0))
    return ({mine[0]}, {mine[1]}) if len(mine) > 1 else (set(), set())


def _without_settings(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in environ.items() if not name.startswith(PREFIX)}


def _preparing(processors: Collection[int]) -> Callable[[], None]:
    parent = os.getpid()

    def prepare() -> None:
        if processors:
            os.sched_setaffinity(0, processors)
        end_with(parent)

    return prepare


def _announced(process: "subprocess.Popen[str]", log: IO[str]) -> int:
    """Return the port that a server says it listens on."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], START_LIMIT_S)
    line = process.stdout.readline() if ready else ""
    if match := _ANNOUNCED.search(line.strip()):
        return int(match[1])
    raise LaunchError(_why(process, log) or "it said nothing")


def _accepted(process: "subprocess.Popen[str]", port: int, log: IO[str]) -> int:
    """Wait until a port accepts connections."""
    deadline_s = time.monotonic() + START_LIMIT_S
    while process.poll() is None and time.monotonic() < deadline_s:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return port
        time.sleep(0.02)
    raise LaunchError(_why(process, log) or f"nothing listens on port {port}")


def _why(process: "subprocess.Popen[str]", log: IO[str]) -> str:
    """Return the first line that a server logged, once it has ended; of a traceback, the last."""
    end(process)
    first, *others = _text(log).splitlines() or [""]
    why = others[-1] if others and first.startswith("Traceback ") else first
    return why.strip().removeprefix("kvss serve: ")


def _text(log: IO[str]) -> str:
    """Return what a file has. Its position, which is also the server's, must not move: the next line goes there."""
    descriptor = log.fileno()
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode(errors="replace")
