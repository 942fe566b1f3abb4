"""Every store does what a dict would do, batch by batch; those on disk also after closing and opening."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from store_calls import Result, apply

from kvss_gevent.protocol.wire import Verb
from kvss_gevent.stores.base import Command, Store
from kvss_gevent.stores.disk.disk_store import DiskStore
from kvss_gevent.stores.disk.gathering import gathering
from kvss_gevent.stores.memory import MemoryStore

KEYS = [b"a", b"b", b"\xc3\xa9", b"k" * 511, b"\x00", b"0"]
VALUES = [b"1", b"two words ", b"\x00\xff", b"x" * 2000, b"y" * 5000]
COMMANDS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from([Verb.GET, Verb.DEL]), st.sampled_from(KEYS), st.just(b"")),
        st.tuples(st.just(Verb.PUT), st.sampled_from(KEYS), st.sampled_from(VALUES)),
    ),
    min_size=1,
    max_size=12,
)

MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Where a sync costs nothing: power does not fail here, and there are hundreds of syncs."""

Opener = Callable[[Path], Store]

STORES: dict[str, Opener] = {
    "memory": lambda path: MemoryStore(),
    "disk, synced": DiskStore,
    "disk, synced now and then": lambda path: DiskStore(path, sync="interval"),
    "disk, with a limit": lambda path: DiskStore(path, max_bytes=1 << 20),
    "disk, gathered on a thread": lambda path: gathering(DiskStore(path), synced=True),
    "disk, gathered in the hub": lambda path: gathering(DiskStore(path, sync="none"), synced=False),
}


def run_on(model: dict[bytes, bytes], batch: list[Command], limit_bytes: int) -> list[Result]:
    """Run a batch on a dict, stopping early as a store may."""
    results: list[Result] = []
    fetched = 0
    for verb, key, value in batch:
        if verb is Verb.GET:
            results.append(model.get(key))
            fetched += len(model.get(key, b""))
        elif verb is Verb.PUT:
            results.append(key not in model)
            model[key] = value
        else:
            results.append(model.pop(key, None) is not None)
        if fetched > limit_bytes:
            break
    return results


def machine_for(name: str) -> type[RuleBasedStateMachine]:
    class Machine(RuleBasedStateMachine):
        """One store beside one dict."""

        def __init__(self) -> None:
            super().__init__()
            self.directory = Path(tempfile.mkdtemp(prefix="kvss-model-", dir=MEMORY))
            self.store = STORES[name](self.directory / "data.kv")
            self.model: dict[bytes, bytes] = {}

        @rule(batch=COMMANDS, limit_bytes=st.sampled_from([0, 3000, 1 << 20]))
        def apply(self, batch: list[Command], limit_bytes: int) -> None:
            results = apply(self.store, batch, limit_bytes)
            assert results
            # How many bytes a store counts for a value is its own affair: it may stop earlier or later than the dict.
            assert results == run_on(self.model, batch[: len(results)], 1 << 30)
            if limit_bytes == 1 << 20:
                assert len(results) == len(batch)
            if limit_bytes == 0:
                sizes = [len(result) for result in results[:-1] if isinstance(result, bytes)]
                assert sizes == []
            assert self.store.count() == len(self.model)

        @precondition(lambda _: name != "memory")
        @rule()
        def close_and_open(self) -> None:
            self.store.close()
            self.store.close()
            self.store = STORES[name](self.directory / "data.kv")
            assert self.store.count() == len(self.model)
            for key, value in self.model.items():
                assert apply(self.store, [(Verb.GET, key, b"")], 0) == [value]

        def teardown(self) -> None:
            self.store.close()
            shutil.rmtree(self.directory)

    return Machine


@pytest.mark.parametrize("name", STORES)
def test_a_store_is_a_dict(name: str) -> None:
    run_state_machine_as_test(
        machine_for(name), settings=settings(max_examples=30, stateful_step_count=15, deadline=None)
    )
