"""A submission under test: starts its command on a port, restarts it after a crash, and ends all its processes."""

import math
import socket
import threading
import time
from dataclasses import replace
from typing import Final

from kvss_gevent.conformance.process.kernel import busyness, listening_ports, listens
from kvss_gevent.conformance.process.shell_command import Death, Keeper, ShellCommand, read_death

FIXED_PORT: Final = 5050
"""The port on which a command without `{port}` must listen."""

PORT_FIELD: Final = "{port}"

MAX_STARTS: Final = 150
"""A server that has been started so often is not started again; most runs reach their time limit before."""

_ELSEWHERE_S: Final = 3.0
"""How long a command that listens on other ports may take until it listens on the right one, too."""
_POLL_S: Final = 0.02


class NotStarted(Exception):
    """The command does not accept connections. The message says why; tail is the end of its stderr."""

    def __init__(self, why: str, tail: str = "") -> None:
        super().__init__(why)
        self.tail = tail


class Submission:
    """A command that listens on the port that replaces `{port}`, or on FIXED_PORT. Threads may share it.

    ensure() starts it; end() ends it for good. While stop is set, a start fails.
    """

    def __init__(self, command: ShellCommand, stop: threading.Event | None = None) -> None:
        from kvss_gevent.conformance.process.keeper import folder_bytes  # it imports modules that only POSIX has

        # The limit is for what the command adds to the folder.
        room = command.bounds.folder_bytes + folder_bytes(str(command.directory))
        self._command = replace(command, bounds=replace(command.bounds, folder_bytes=room))
        self.stopping = stop or threading.Event()
        self._lock = threading.Lock()
        self._keeper: Keeper | None = None
        self._death: Death | None = None
        self.port = FIXED_PORT
        self.starts = 0

    @property
    def died(self) -> bool:
        """Whether the last process has ended."""
        return self._keeper is not None and self._keeper.poll() is not None

    def death(self, within_s: float = 0.0) -> Death | None:
        """Return how the command ended; None if it does not end within within_s."""
        until = time.monotonic() + within_s
        while not self.died:
            if time.monotonic() >= until:
                return None
            time.sleep(_POLL_S)
        with self._lock:
            if self._death is None and self._keeper is not None and self.died:
                self._death = read_death(self._keeper)  # unless another thread has restarted it meanwhile
            return self._death

    def ensure(self) -> None:
        """Start the command if it does not run, and wait until it accepts connections. Raises NotStarted."""
        with self._lock:
            if self._keeper is None or self.died:
                self._stop()  # reads the report of the last process, if nobody has read it
                self._start()

    def give_up(self, starts: int) -> Death | None:
        """End a command that answers no client any more; None if another thread has already restarted it."""
        with self._lock:
            if self.starts != starts:
                return None
            self._stop()
            return replace(self._death, limit="", hung=True) if self._death else None

    def restart(self) -> None:
        """End the command if it runs, and start it again. Raises NotStarted."""
        with self._lock:
            self._stop()
            self._start()

    def end(self) -> None:
        """End the command and all processes that it started."""
        with self._lock:
            self._stop()

    def _start(self) -> None:
        from kvss_gevent.conformance.process.keeper import descendants  # it imports modules that only POSIX has

        if self.starts >= MAX_STARTS:
            raise NotStarted(f"it has been started {MAX_STARTS} times")
        line = self._command.line
        self.port = _free_port() if PORT_FIELD in line else FIXED_PORT
        self._await_free_port()
        self.starts += 1
        self._death = None
        port = str(self.port)
        variables = {**self._command.variables, "PORT": port}
        self._keeper = replace(self._command, line=line.replace(PORT_FIELD, port), variables=variables).start()
        start_s = self._command.bounds.start_s
        started, elsewhere = time.monotonic(), math.inf
        while self.port not in (ports := listening_ports(descendants(self._keeper.pid))):
            if self.died:
                raise self._not_started("")
            if self.stopping.is_set():
                raise self._not_started("the grading was interrupted")
            now = time.monotonic()
            if ports:
                elsewhere = min(elsewhere, now)
            if now - started > start_s * busyness() or now - elsewhere > _ELSEWHERE_S * busyness():
                where = f"; it listens on port {', '.join(map(str, ports))}" if ports else ""
                raise self._not_started(f"nothing listens on port {self.port} after {now - started:.0f} s{where}")
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
            self._death = read_death(self._keeper)
        self._keeper = None


def _free_port() -> int:
    """Return a port that was free a moment ago. It is not kept: not every server sets SO_REUSEADDR."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        port: int = holder.getsockname()[1]
        return port
