"""The contestants that are compared, the commands of their servers, and how a server is run.

A contestant is the name of a model. NAME+disk is the model with a disk store: models with several processes cannot keep
data in memory, and are compared with others on disk. NAME+again is the model once more, which shows how much two equal
servers differ. `null` is null_server.py.
"""

import contextlib
import resource
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from kvss_gevent import models
from kvss_gevent.compare.measuring.processors import Cores
from kvss_gevent.compare.words import listed
from kvss_gevent.measure.launch import Launched, LaunchError, kvss, launched

NULL = "null"
ON_DISK = "+disk"
AGAIN = "+again"

CLIENTS = 32
"""The number of connections if an experiment does not vary it, and the number of threads of pool."""

LABELS = {"gevent": "gevent (tuned)", "gevent-plain": "gevent (textbook)", NULL: "null server"}
"""Names in reports: the product is tuned, and every other model is as in its textbook."""

PROGRAM = """
import sys
{setup}
from kvss_gevent.cli import main
sys.exit(main(sys.argv[1:]))
"""


class FailedError(Exception):
    """Something cannot be measured; the message says why."""


def model_of(contestant: str) -> str:
    """Return the model of a contestant."""
    return contestant.removesuffix(AGAIN).removesuffix(ON_DISK)


def label_of(contestant: str) -> str:
    """Return a contestant's name in reports."""
    label = LABELS.get(model_of(contestant), model_of(contestant))
    if contestant.endswith(AGAIN):
        return f"{label}, again"
    return f"{label}, on disk" if contestant != NULL and is_on_disk(contestant) else label


def named(contestants: Iterable[str]) -> str:
    """Return contestants' names in reports, as words of a sentence."""
    return listed(map(label_of, contestants))


def is_on_disk(contestant: str) -> bool:
    """Tell whether a contestant keeps its data on disk. Raises models.Absent."""
    return contestant.endswith(ON_DISK) or (contestant != NULL and bool(models.load(model_of(contestant)).SHARED))


def places_of(contestant: str, cores: Cores) -> int:
    """Return the number of clients for a contestant: CLIENTS, or as many as it can serve at a time.

    prefork has as many processes as processors, and each serves one client at a time.
    """
    model = model_of(contestant)
    return {"sequential": 1, "prefork": len(cores.server)}.get(model, CLIENTS)


def command(
    contestant: str, directory: Path, flags: tuple[str, ...] = (), setup: str = "", *, cores: Cores
) -> list[str]:
    """Return the command of a contestant's server. setup: Python code that the server runs first."""
    if contestant == NULL:
        return [sys.executable, "-m", "kvss_gevent.compare.measuring.null_server"]
    words = kvss("--model", model_of(contestant))
    if setup:
        words[1:3] = ["-c", PROGRAM.format(setup=setup)]
    if model_of(contestant) in ("pool", "prefork"):
        words += ["--pool-size", str(places_of(contestant, cores))]
    if is_on_disk(contestant):
        words += ["--store", f"disk:{directory}/{contestant}.kv", "--sync", "none"]
    return [*words, *flags]


@contextlib.contextmanager
def serving(words: list[str], processors: frozenset[int]) -> Iterator[Launched]:
    """Run a server until the block ends. Raises FailedError if it does not start."""
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(launched(words, processors=processors))
        except LaunchError as why:
            raise FailedError(f"the server did not start: {why}") from None
        yield server


def raise_descriptor_limit() -> int:
    """Raise the limit of open files of this process and its children as far as allowed; returns the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
