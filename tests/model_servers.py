"""Servers of every concurrency model for tests, with a store that each of them can use."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from serving import Served, serving

from kvss_gevent.models import DEFAULT, MODULES, describe, load

ROWS = {name: describe(name) for name in MODULES}
TEXTBOOK = [name for name in MODULES if name != DEFAULT]
FORKING = [name for name in MODULES if not ROWS[name].why_not and load(name).SHARED]

GET = b"KV/1.0 GET k\n"
MISS = b"404 NOT_FOUND"


@contextlib.contextmanager
def model(name: str, directory: Path, *flags: str, prefix: tuple[str, ...] = ()) -> Iterator[Served]:
    store = ("--store", f"disk:{directory}/{name}.kv", "--sync", "none") if name in FORKING else ()
    with serving("--model", name, *store, *flags, prefix=prefix) as server:
        yield server


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def runs(pid: int) -> bool:
    """Tell whether a process runs: one that has ended and waits for somebody to ask about it does not."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False
