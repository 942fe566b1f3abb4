"""Starts a server of a model for a cell, on its own processors, and ends it. Loading it is for workbench.py.

A contestant is a model's name, or NAME+disk for the model on a disk store: what runs in several processes cannot keep
its data in memory, and a model to compare it with should not either. `null` is null_server.py.
"""

import contextlib
import os
import re
import resource
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from kvss_gevent import models
from kvss_gevent.models.processes import end_with

NULL = "null"
ON_DISK = "+disk"
START_LIMIT_S = 20.0
STOP_LIMIT_S = 10.0

CLIENTS_OF_A_POOL = 32
"""--pool-size of pool and prefork, and the number of connections wherever that number is not what is varied."""

PROGRAM = """
import sys
sys.setswitchinterval({interval_s})
from kvss_gevent.cli import main
sys.exit(main(sys.argv[1:]))
"""


class FailedError(Exception):
    """A cell cannot be measured; the message says why."""


@dataclass(frozen=True, slots=True)
class Served:
    """A server that listens on loopback."""

    pid: int
    port: int


def model_of(contestant: str) -> str:
    """Return the model that a contestant is."""
    return contestant.removesuffix(ON_DISK)


def is_on_disk(contestant: str) -> bool:
    """Tell whether a contestant keeps its data on disk. Raises models.Absent."""
    return contestant.endswith(ON_DISK) or bool(models.load(contestant).SHARED)


def command(
    contestant: str, directory: Path, flags: tuple[str, ...] = (), interval_s: float | None = None
) -> list[str]:
    """Return the command that serves a contestant; interval_s is the interpreter's switch interval."""
    if contestant == NULL:
        return [sys.executable, "-m", "kvss_gevent.compare.measuring.null_server"]
    start = ["-m", "kvss_gevent"] if interval_s is None else ["-c", PROGRAM.format(interval_s=interval_s)]
    words = [sys.executable, *start, "serve", "127.0.0.1", "0", "--model", model_of(contestant)]
    words += ["--pool-size", str(CLIENTS_OF_A_POOL)]
    if is_on_disk(contestant):
        words += ["--store", f"disk:{directory}/{contestant}.kv", "--sync", "none"]
    return [*words, *flags]


@contextlib.contextmanager
def serving(words: list[str], processors: frozenset[int]) -> Iterator[Served]:
    """Run a server until the block ends. Raises FailedError where it does not start."""
    parent = os.getpid()

    def prepare() -> None:
        os.sched_setaffinity(0, processors)
        end_with(parent)

    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, text=True, preexec_fn=prepare)  # noqa: PLW1509 - this process has no threads
        try:
            yield Served(process.pid, _port(process, log))
        finally:
            _end(process)


def _port(process: "subprocess.Popen[str]", log: IO[str]) -> int:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], START_LIMIT_S)
    line = process.stdout.readline() if ready else ""
    if match := re.search(r"listening on \S+:(\d+)$", line.strip()):
        return int(match[1])
    log.seek(0)
    said = " ".join(log.read().split("\n")[:1]).removeprefix("kvss: ")
    raise FailedError(f"the server did not start: {said or 'it said nothing'}")


def _end(process: "subprocess.Popen[str]") -> None:
    process.terminate()
    try:
        process.wait(STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    assert process.stdout is not None
    process.stdout.close()


def raise_descriptor_limit() -> int:
    """Allow this process and what it starts as many open files as may be; returns how many that is."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
