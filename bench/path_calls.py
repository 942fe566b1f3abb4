"""Counts what a request passes through, from the session's `receive` to its reply: function calls, files, file changes.

A reply may be sent once the store has committed, which is counted, too.

Run as `python -m bench.path_calls`; two seconds. Only Python functions of this package count: neither calls into C nor
functions of gevent and of the client library do. Each request is run some times first, so that nothing is done for the
first time; then the least of five is counted, alone on its connection.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import FrameType

import gevent

import kvss_gevent
from kvss_gevent.core.conversation import Conversation
from kvss_gevent.core.service import Service
from kvss_gevent.settings.config import Config
from kvss_gevent.stores.base import CommittingStore, Store
from kvss_gevent.stores.disk.gathering import gathering
from kvss_gevent.stores.open import open_store
from kvss_gevent.stores.remote.greenlet_store import for_greenlets
from tests.valkeys import running as valkeys

PACKAGE = str(Path(kvss_gevent.__file__).parent) + "/"
RUNS = 5

REQUESTS = {
    "memory GET hit": b"KV/1.0 GET a\n",
    "memory GET miss": b"KV/1.0 GET none\n",
    "memory PUT": b"KV/1.0 PUT a 1\n",
    "memory DEL": b"KV/1.0 DEL none\n",
    "disk GET": b"KV/1.0 GET a\n",
    "disk PUT": b"KV/1.0 PUT a 1\n",
    "cluster GET": b"KV/1.0 GET a\n",
    "cluster PUT": b"KV/1.0 PUT a 1\n",
}
"""From the store, and what is asked, to the request. The disk store does not sync, the cluster has one node."""


@dataclass(frozen=True, slots=True)
class PathCost:
    """What one request passed through."""

    calls: int
    files: int
    changes: int
    """How often a function was called from another file than that of the function called before it."""


def count(answer: Callable[[], object]) -> PathCost:
    """Answer a request of a warm session and count; the least of some runs.

    While a request waits for a node, another greenlet may run for once, such as that which looks after the cluster; its
    calls would be counted, too.
    """
    for _ in range(20):
        answer()
    return min((count_once(answer) for _ in range(RUNS)), key=lambda cost: cost.calls)


def count_once(answer: Callable[[], object]) -> PathCost:
    """Count all calls until a request is answered, without that of `answer` itself."""
    called: list[str] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        path = frame.f_code.co_filename
        if event == "call" and path.startswith(PACKAGE):
            called.append(path)

    sys.setprofile(note)
    try:
        answer()
    finally:
        sys.setprofile(None)
    changes = sum(one != other for one, other in pairwise(called))
    return PathCost(len(called), len(set(called)), changes)


@contextmanager
def stores(kind: str, folder: Path) -> Iterator[Store]:
    """Open a store as `kvss serve` does."""
    with ExitStack() as stack:
        if kind == "cluster":
            (node,) = stack.enter_context(valkeys(1, cluster=True))
            url = f"cluster://127.0.0.1:{node.port}"
        else:
            url = "memory:" if kind == "memory" else f"disk:{folder / 'data.kv'}"
        store = for_greenlets(gathering(open_store(Config(store=url, sync="none")), synced=False))
        stack.callback(store.close)
        yield store


def measure(kind: str) -> dict[str, PathCost]:
    """Return the costs of all requests to a store of this kind."""
    found = {}
    with tempfile.TemporaryDirectory() as folder, stores(kind, Path(folder)) as store:
        session = Service(store).open()
        session.receive(b"KV/1.0 PUT a 1\n")
        for name, request in REQUESTS.items():
            if name.startswith(kind):
                found[name] = count(partial(answered, session, request, store))
    return found


def answered(session: Conversation, request: bytes, store: Store) -> None:
    """Run a request until its reply may be sent."""
    session.receive(request)
    if isinstance(store, CommittingStore):
        store.commit()


def in_a_greenlet(work: Callable[[], dict[str, PathCost]]) -> dict[str, PathCost]:
    """Do work as a connection does: in a greenlet that is not the main one."""
    costs: dict[str, PathCost] = gevent.spawn(work).get(timeout=30)
    return costs


def main() -> None:
    """Print the table."""
    print(f"{'':16} {'calls':>6} {'files':>6} {'changes':>8}")
    for kind in ("memory", "disk", "cluster"):
        for name, cost in in_a_greenlet(lambda: measure(kind)).items():  # noqa: B023 - called at once
            print(f"{name:16} {cost.calls:6} {cost.files:6} {cost.changes:8}")


if __name__ == "__main__":
    main()
