"""Starts the servers that a benchmark compares, each on a free port, and reads what the kernel counted for them."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
START_LIMIT_S = 20.0


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def pinned(command: Sequence[str], cpu: int) -> list[str]:
    """Put a command on one processor, where there are several and taskset can be had."""
    if (os.cpu_count() or 1) < 2 or not shutil.which("taskset"):
        return list(command)
    return ["taskset", "-c", str(cpu), *command]


@contextlib.contextmanager
def running(command: Sequence[str], port: int) -> Iterator[int]:
    """Run a server on processor 0 until the block ends; yields its process id once it listens."""
    process = subprocess.Popen(pinned(command, 0), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline_s = time.monotonic() + START_LIMIT_S
        while True:
            if process.poll() is not None:
                sys.exit(f"bench: {command[0]} ended with {process.returncode} before it listened")
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if time.monotonic() > deadline_s:
                    sys.exit(f"bench: {command[0]} does not listen after {START_LIMIT_S:g} s")
                time.sleep(0.02)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def kvss(port: int, *flags: str) -> list[str]:
    """Return the command of the project's own server."""
    return [sys.executable, "-m", "kvss_gevent", "serve", "127.0.0.1", str(port), *flags]


def redis(port: int) -> list[str]:
    """Return the command of redis-server, with nothing written to disk."""
    return ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]


def cpu_s(pid: int) -> float:
    """Return user and system time that a process and its children have used."""
    total = 0.0
    pids = [pid]
    for one in pids:
        for children in Path(f"/proc/{one}/task").glob("*/children"):
            pids += [int(child) for child in children.read_text().split()]
        fields = Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
        total += (int(fields[11]) + int(fields[12])) * TICK_S
    return total


def resident_bytes(pid: int) -> int:
    """Return resident memory of one process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES
