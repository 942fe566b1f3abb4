"""Runs one command until it ends, breaks a limit, or standard input closes; then ends all its descendants.

This is a separate program that needs only the standard library. It is the subreaper of all that it starts, so that
processes that left their group become its children. All have its process id in their environment, so that they can be
found even if the command has killed the keeper. Argument: a JSON object (see ShellCommand). Output: one JSON object.
It is no sandbox: the command may do everything that its user may do.
"""

import ctypes
import json
import os
import resource
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

TICK_S: Final = 0.1
TAIL_BYTES: Final = 2000
_KILL_S: Final = 5.0
_FOLDER_TICKS: Final = 10
_MAX_FILES: Final = 20_000
_SET_DEATH_SIGNAL: Final = 1
_SET_CHILD_SUBREAPER: Final = 36
_MARK: Final = "KVSS_KEEPER"
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


class Keeper:
    """One command and its limits."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._spec = spec
        self._tails = {"stdout": b"", "stderr": b""}
        self._output_bytes = 0
        self._status: int | None = None
        self._broken = ""
        self._ticks = 0
        self._ends_at = time.monotonic() + spec["wall_s"]

    def run(self) -> dict[str, Any]:
        """Run the command to its end; return its status, the limit that it broke, and the ends of its output."""
        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        child = subprocess.Popen(
            ["/bin/sh", "-c", self._spec["command"]],
            cwd=self._spec["directory"],
            stdin=subprocess.PIPE,  # it stays open: some servers end when it closes
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, _MARK: str(os.getpid())},
            preexec_fn=self._limit,  # noqa: PLW1509 - there are no threads here
        )
        assert child.stdout is not None
        assert child.stderr is not None
        selector = selectors.DefaultSelector()
        for stream, name in ((sys.stdin, "stdin"), (child.stdout, "stdout"), (child.stderr, "stderr")):
            selector.register(stream, selectors.EVENT_READ, name)
        due = time.monotonic()
        while not self._broken:
            for key, _ in selector.select(max(0.0, due - time.monotonic())):
                data = os.read(key.fd, 1 << 16)
                if key.data == "stdin":
                    self._broken = "asked to stop"
                elif data:
                    self._output_bytes += len(data)
                    self._tails[key.data] = (self._tails[key.data] + data)[-TAIL_BYTES:]
                else:
                    selector.unregister(key.fileobj)
            if self._ended(child.pid):
                break
            if time.monotonic() >= due:
                due = time.monotonic() + TICK_S
                self._broken = self._broken or self._check()
        pids = descendants(os.getpid())
        end_all(_own)
        return {
            "status": self._status,
            "limit": self._broken,
            "left": len(pids),
            **{name: tail.decode(errors="replace") for name, tail in self._tails.items()},
        }

    def _limit(self) -> None:
        size = self._spec["file_bytes"]
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)

    def _ended(self, main: int) -> bool:
        """Reap the processes that have ended; tell whether none is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            if not pid:
                return False
            if pid == main:
                self._status = os.waitstatus_to_exitcode(status)

    def _check(self) -> str:
        """Return the limit that is broken, "" if none is."""
        spec, pids = self._spec, descendants(os.getpid())
        self._ticks += 1
        if time.monotonic() > self._ends_at:
            return f"more than {spec['wall_s']:g} s"
        if len(pids) > spec["processes"]:
            return f"more than {spec['processes']} processes"
        if sum(map(resident_bytes, pids)) > spec["memory_bytes"]:
            return f"more than {spec['memory_bytes'] >> 20} MiB of memory"
        if self._output_bytes > spec["output_bytes"]:
            return f"more than {spec['output_bytes'] >> 20} MiB of output"
        if self._ticks % _FOLDER_TICKS == 0 and folder_bytes(spec["directory"]) > spec["folder_bytes"]:
            return f"more than {spec['folder_bytes'] >> 20} MiB in its folder"
        return ""


def descendants(pid: int) -> list[int]:
    """Return the processes that a process has started, and those that they have started."""
    pids = [pid]
    for one in pids:
        try:
            for task in Path(f"/proc/{one}/task").iterdir():
                pids += map(int, (task / "children").read_text(encoding="ascii").split())
        except OSError:
            continue
    return pids[1:]


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * _PAGE_BYTES
    except (OSError, IndexError):
        return 0


def folder_bytes(directory: str) -> int:
    """Return the size of a folder's files on disk; more than _MAX_FILES files count as endless."""
    total = files = 0
    for place, _, names in os.walk(directory):
        for name in names:
            files += 1
            if files > _MAX_FILES:
                return 1 << 60
            try:
                total += Path(place, name).lstat().st_blocks * 512
            except OSError:
                continue
    return total


def marked(keeper: int) -> list[int]:
    """Return all processes that have a keeper's process id in their environment."""
    mark, pids = f"{_MARK}={keeper}".encode(), []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in path.read_bytes().split(b"\0"):
                pids.append(int(path.parent.name))
        except OSError:
            continue
    return pids


def end_all(find: Callable[[], list[int]]) -> None:
    """Kill all processes that find returns. They are stopped first, so that they cannot start others."""
    until = time.monotonic() + _KILL_S
    while (pids := find()) and time.monotonic() < until:
        for sign in (signal.SIGSTOP, signal.SIGKILL):
            for pid in pids:
                try:
                    os.kill(pid, sign)
                except ProcessLookupError:
                    continue
        time.sleep(0.005)


def _own() -> list[int]:
    """Reap the children that have ended, and return this program's descendants."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return []
    return descendants(os.getpid())


if __name__ == "__main__":
    for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)  # closing standard input ends it
    print(json.dumps(Keeper(json.loads(sys.argv[1])).run()), flush=True)
