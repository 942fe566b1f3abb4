"""A submission under test: its command is started on a port, again after a crash, and ended with all it started."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from kvss_gevent.conformance.process.kernel import descendants, listening_ports, listens

FIXED_PORT: Final = 5050
"""Where a command without `{port}` is expected to listen."""

MAX_STARTS: Final = 150
"""A server that has crashed so often is not started again; the time of the run ends most of them before."""

_POLL_S: Final = 0.02
_KEEPER: Final = Path(__file__).with_name("keeper.py")


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a submission may use. start_s: until it accepts connections. wall_s: one start to its end."""

    start_s: float = 10.0
    wall_s: float = 600.0
    memory_bytes: int = 1 << 30
    processes: int = 200
    output_bytes: int = 64 << 20
    file_bytes: int = 64 << 20
    folder_bytes: int = 256 << 20


@dataclass(frozen=True, slots=True)
class Death:
    """How a command ended: its exit status (negative for a signal), the limit it broke, the tail of its stderr.

    hung: it ran on, but no client had an answer any more.
    """

    status: int | None
    limit: str
    stderr: str
    hung: bool = False

    def __str__(self) -> str:
        if self.hung:
            return "it gave no client an answer any more and was ended"
        if self.limit:
            return f"it used {self.limit} and was ended"
        status = self.status or 0
        if status > 128:  # a shell's way to say it
            status = 128 - status
        return f"it ended by signal {-status}" if status < 0 else f"it ended with exit status {status}"


class NotStarted(Exception):
    """The command does not come to accept connections; the message says why, tail is the end of its stderr."""

    def __init__(self, why: str, tail: str = "") -> None:
        super().__init__(why)
        self.tail = tail


class Submission:
    """One command. Threads may share it; ensure() starts it, end() ends it for good."""

    def __init__(self, command: str, directory: Path, bounds: Bounds = Bounds()) -> None:
        self._has_port = "{port}" in command
        self._command = command
        self._directory = directory
        self._bounds = bounds
        self._lock = threading.Lock()
        self._keeper: subprocess.Popen[str] | None = None
        self._death: Death | None = None
        self.port = FIXED_PORT
        self.starts = 0

    @property
    def died(self) -> bool:
        """Whether the last start has come to an end."""
        return self._keeper is not None and self._keeper.poll() is not None

    def death(self, within_s: float = 0.0) -> Death | None:
        """Return how the command ended; None where it has not ended within some time."""
        until = time.monotonic() + within_s
        while not self.died:
            if time.monotonic() >= until:
                return None
            time.sleep(_POLL_S)
        with self._lock:
            if self._death is None and self._keeper is not None and self.died:
                self._death = _read(self._keeper)  # not where another thread has started it again meanwhile
            return self._death

    def ensure(self) -> None:
        """See that the command runs and accepts connections. Raises NotStarted."""
        with self._lock:
            if self._keeper is None or self.died:
                self._start()

    def give_up(self, starts: int) -> Death | None:
        """End a command that answers nobody any more; None where another thread has already started it again."""
        with self._lock:
            if self.starts != starts:
                return None
            self._stop()
            return replace(self._death, limit="", hung=True) if self._death else None

    def restart(self) -> None:
        """End what runs and start the command anew. Raises NotStarted."""
        with self._lock:
            self._stop()
            self._start()

    def end(self) -> None:
        """End the command and everything that it has started."""
        with self._lock:
            self._stop()

    def _start(self) -> None:
        if self.starts >= MAX_STARTS:
            raise NotStarted(f"it has been started {MAX_STARTS} times")
        self.port = _free_port() if self._has_port else FIXED_PORT
        self._await_free_port()
        self.starts += 1
        bounds = {name: getattr(self._bounds, name) for name in Bounds.__dataclass_fields__}
        command = self._command.replace("{port}", str(self.port))
        spec = {"command": command, "directory": str(self._directory), **bounds}
        self._death = None
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_KEEPER), json.dumps(spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            env={**os.environ, "PORT": str(self.port)},
        )
        until = time.monotonic() + self._bounds.start_s
        while not listens(self.port):
            if self.died:
                raise self._not_started("")
            if time.monotonic() > until:
                others = listening_ports(descendants(self._keeper.pid))
                where = f"; it listens on port {', '.join(map(str, others))}" if others else ""
                raise self._not_started(f"nothing listens on port {self.port} after {self._bounds.start_s:g} s{where}")
            time.sleep(_POLL_S)

    def _await_free_port(self) -> None:
        until = time.monotonic() + 1.0
        while listens(self.port):
            if time.monotonic() > until:
                raise NotStarted(f"another program listens on port {self.port}")
            time.sleep(_POLL_S)

    def _not_started(self, why: str) -> NotStarted:
        self._stop()
        death = self._death
        return NotStarted(why or str(death), death.stderr if death else "")

    def _stop(self) -> None:
        if self._keeper is not None and self._death is None:
            self._death = _read(self._keeper)
        self._keeper = None


def _read(keeper: "subprocess.Popen[str]") -> Death:
    """Close a keeper's standard input, which ends it, and read what it says."""
    with contextlib.suppress(OSError):
        assert keeper.stdin is not None
        keeper.stdin.close()
    assert keeper.stdout is not None
    with keeper.stdout:
        try:
            said = json.loads(keeper.stdout.read())
        except ValueError:
            said = {"status": None, "limit": "", "stderr": ""}
    keeper.wait()
    return Death(said["status"], said["limit"], said["stderr"])


def _free_port() -> int:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        port: int = holder.getsockname()[1]
        return port
