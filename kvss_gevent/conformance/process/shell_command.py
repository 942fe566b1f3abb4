"""Runs one shell command under a keeper (keeper.py), within bounds, and reads how it ended."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final

_KEEPER: Final = Path(__file__).with_name("keeper.py")
_POLL_S: Final = 0.02
_END_S: Final = 20.0
"""How long a keeper may take to end all processes; then it is killed, because the command may have stopped it."""

Keeper = subprocess.Popen[str]
"""The process that runs the command. Closing its standard input ends it and all processes that it started."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a command may use. start_s: until it accepts connections. wall_s: from its start to its end."""

    start_s: float = 10.0
    wall_s: float = 600.0
    memory_bytes: int = 1 << 30
    processes: int = 200
    output_bytes: int = 64 << 20
    file_bytes: int = 64 << 20
    folder_bytes: int = 256 << 20


@dataclass(frozen=True, slots=True)
class Death:
    """How a command ended: its exit status (negative for a signal), the limit that it broke, the ends of its output.

    hung: it still ran, but no client got a reply any more. unwatched: it killed or stopped its keeper.
    """

    status: int | None
    limit: str
    stderr: str
    hung: bool = False
    stdout: str = ""
    unwatched: bool = False

    def __str__(self) -> str:
        if self.unwatched:
            return "it killed or stopped the program that watches it, and was ended"
        if self.hung:
            return "it gave no client an answer any more and was ended"
        if self.limit:
            return f"it used {self.limit} and was ended"
        status = self.status or 0
        if status > 128:  # this is how a shell reports a signal
            status = 128 - status
        return f"it ended by signal {-status}" if status < 0 else f"it ended with exit status {status}"


@dataclass(frozen=True, slots=True)
class ShellCommand:
    """A shell command, its working directory, its bounds, and additional environment variables."""

    line: str
    directory: Path
    bounds: Bounds = Bounds()
    variables: Mapping[str, str] = field(default_factory=dict)

    def start(self) -> Keeper:
        """Start it and return at once."""
        spec = {"command": self.line, "directory": str(self.directory), **asdict(self.bounds)}
        return subprocess.Popen(
            [sys.executable, "-I", "-S", str(_KEEPER), json.dumps(spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            env={**os.environ, **self.variables},
        )

    def run(self, stop: threading.Event) -> Death | None:
        """Run it to its end, at most bounds.wall_s, with an empty standard input; None if stop was set before."""
        keeper = replace(self, line=f"exec </dev/null\n{self.line}").start()
        until = time.monotonic() + self.bounds.wall_s + _END_S
        while keeper.poll() is None and time.monotonic() < until and not stop.wait(_POLL_S):
            pass
        death = read_death(keeper)
        return None if stop.is_set() else death


def read_death(keeper: Keeper) -> Death:
    """Close a keeper's standard input, which ends it, and read its report. If there is none, end its processes."""
    from kvss_gevent.conformance.process.keeper import end_all, marked  # it imports modules that only POSIX has

    try:
        said = json.loads(keeper.communicate(timeout=_END_S)[0])
    except (ValueError, subprocess.TimeoutExpired):
        keeper.kill()
        keeper.communicate()
        end_all(lambda: marked(keeper.pid))
        return Death(None, "", "", unwatched=True)
    return Death(said["status"], said["limit"], said["stderr"], stdout=said["stdout"])
