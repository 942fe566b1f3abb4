"""What is compared: the command of each contestant's server, and running it on its own processors.

A contestant is a model's name, or NAME+disk for the model on a disk store: what runs in several processes cannot keep
its data in memory, and a model to compare it with should not either. `null` is null_server.py.
"""

import contextlib
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

from kvss_gevent import models
from kvss_gevent.measure.launch import Launched, NotStarted, launched

NULL = "null"
ON_DISK = "+disk"
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
def serving(words: list[str], processors: frozenset[int]) -> Iterator[Launched]:
    """Run a server until the block ends. Raises FailedError where it does not start."""
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(launched(words, processors=processors))
        except NotStarted as why:
            raise FailedError(f"the server did not start: {why}") from None
        yield server


def raise_descriptor_limit() -> int:
    """Allow this process and what it starts as many open files as may be; returns how many that is."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
