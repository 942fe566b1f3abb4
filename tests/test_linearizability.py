"""Histories over memory: and disk: are linearizable, also across kills; mistakes planted for the checker are caught."""

import time
from collections.abc import Callable, Sequence
from itertools import permutations
from pathlib import Path

import gevent
import pytest
from histories import Clients, on_store
from hypothesis import given, settings
from hypothesis import strategies as st
from serving import serving

from kvss_gevent.conformance.races.linearizability import UNKNOWN, Operation, is_linearizable, violations
from kvss_gevent.protocol.wire import DEL, GET, LINE, PUT, Status
from kvss_gevent.stores.base import Command, Store
from kvss_gevent.stores.disk.disk_store import DiskStore
from kvss_gevent.stores.disk.gathering import gathering
from kvss_gevent.stores.disk.group_commit import GroupCommit
from kvss_gevent.stores.memory import MemoryStore


def test_operations_one_after_the_other_have_one_order() -> None:
    put = Operation(PUT, b"k", 0, 1, b"1")
    assert is_linearizable([put, Operation(GET, b"k", 2, 3, found=b"1")])
    assert not is_linearizable([put, Operation(GET, b"k", 2, 3, found=None)])
    assert not is_linearizable([put, Operation(PUT, b"k", 2, 3, b"2", was_there=False)])
    assert not is_linearizable([Operation(DEL, b"k", 0, 1, was_there=True)])


def test_operations_that_overlap_have_any_order_but_all_clients_see_the_same() -> None:
    put = Operation(PUT, b"k", 0, 9, b"1")
    early, late = Operation(GET, b"k", 1, 2, found=b"1"), Operation(GET, b"k", 3, 4, found=None)
    assert is_linearizable([put, early])
    assert is_linearizable([put, late])
    assert not is_linearizable([put, early, late])


def test_what_was_not_acknowledged_may_have_happened_or_not_but_not_both() -> None:
    put = Operation(PUT, b"k", 0, UNKNOWN, b"1")
    there, gone = Operation(GET, b"k", 5, 6, found=b"1"), Operation(GET, b"k", 7, 8, found=None)
    assert is_linearizable([put])
    assert is_linearizable([put, there])
    assert is_linearizable([put, gone])
    assert not is_linearizable([put, there, gone])
    assert is_linearizable([put, there, gone, Operation(DEL, b"k", 4, UNKNOWN)])
    assert not is_linearizable([Operation(GET, b"k", 1, 2, found=b"1"), Operation(PUT, b"k", 3, UNKNOWN, b"1")])


def by_trying_all_orders(history: Sequence[Operation]) -> bool:
    """Check the slow and obvious way."""

    def explains(order: Sequence[Operation]) -> bool:
        value: bytes | None = None
        for number, operation in enumerate(order):
            if any(later.ended < operation.began for later in order[number + 1 :]):
                return False
            if operation.ended != UNKNOWN:
                if operation.verb is GET and operation.found != value:
                    return False
                if operation.verb is not GET and operation.was_there != (value is not None):
                    return False
            if operation.verb is not GET:
                value = operation.value if operation.verb is PUT else None
        return True

    known = [operation for operation in history if operation.ended != UNKNOWN]
    others = [operation for operation in history if operation.ended == UNKNOWN]
    return any(
        explains(order)
        for chosen in range(2 ** len(others))
        for order in permutations([*known, *(o for n, o in enumerate(others) if chosen >> n & 1)])
    )


operations = st.builds(
    lambda verb, began, lasted, value, found, was_there: Operation(
        verb, b"k", began, began + lasted, value, found if verb is GET else None, was_there
    ),
    st.sampled_from([GET, PUT, DEL]),
    st.integers(0, 8),
    st.sampled_from([1, 2, 4, UNKNOWN]),
    st.sampled_from([b"1", b"2"]),
    st.sampled_from([None, b"1", b"2"]),
    st.booleans(),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(operations, max_size=5))
def test_the_checker_agrees_with_trying_all_orders(history: list[Operation]) -> None:
    assert is_linearizable(history) == by_trying_all_orders(history)


class AcknowledgesEarly(GroupCommit):
    """Answers a PUT before its transaction."""

    def apply(self, batch: Sequence[Command], limit_bytes: int) -> list[bytes]:
        if batch[0][0] == PUT:
            (found,) = self._store.read([(GET, batch[0][1], b"")], limit_bytes)
            gevent.spawn(super().apply, batch, limit_bytes)
            return [LINE[Status.CREATED if found == LINE[Status.NOT_FOUND] else Status.OK]]
        return super().apply(batch, limit_bytes)


class ReadsStale(GroupCommit):
    """Answers a GET from what it read a little earlier."""

    def apply(self, batch: Sequence[Command], limit_bytes: int) -> list[bytes]:
        results = super().apply(batch, limit_bytes)
        if batch[0][0] == GET:
            old = self.__dict__.setdefault("old", {})
            results = [old.get(batch[0][1], results[0])]
            (old[batch[0][1]],) = super().apply(batch, limit_bytes)
        return results


class LosesDeletes(GroupCommit):
    """Acknowledges a DEL of a key that is there without doing it, now and then."""

    deletes = 0

    def apply(self, batch: Sequence[Command], limit_bytes: int) -> list[bytes]:
        if batch[0][0] == DEL:
            self.deletes += 1
            if self.deletes % 10 == 0:
                (found,) = super().apply([(GET, batch[0][1], b"")], limit_bytes)
                return [LINE[Status.NOT_FOUND if found == LINE[Status.NOT_FOUND] else Status.NO_CONTENT]]
        return super().apply(batch, limit_bytes)


STORES: dict[str, Callable[[Path], Store]] = {
    "memory": lambda _: MemoryStore(),
    "disk, on a thread": lambda path: gathering(DiskStore(path), synced=True),
    "disk, in the hub": lambda path: gathering(DiskStore(path, sync="none"), synced=False),
}


@pytest.mark.parametrize("name", STORES)
def test_histories_over_a_store_are_linearizable(name: str, tmp_path: Path) -> None:
    store = STORES[name](tmp_path / "data.kv")
    history = on_store(store)
    store.close()
    assert len(history) == 8 * 60
    assert all(operation.ended != UNKNOWN for operation in history)
    assert violations(history) == []


@pytest.mark.parametrize("mistake", [AcknowledgesEarly, ReadsStale, LosesDeletes])
def test_the_checker_catches_a_planted_mistake(mistake: type[GroupCommit], tmp_path: Path) -> None:
    store = mistake(DiskStore(tmp_path / "data.kv"))
    history = on_store(store)
    gevent.sleep(0.05)
    store.close()
    assert violations(history) != []


@pytest.mark.server
@pytest.mark.parametrize(
    ("url", "sync", "servers"),
    [("memory:", "none", 1), ("disk:", "always", 1), ("disk:", "always", 2), ("disk:", "none", 2)],
)
def test_histories_over_servers_are_linearizable(url: str, sync: str, servers: int, tmp_path: Path) -> None:
    url = url if url == "memory:" else f"disk:{tmp_path / 'data.kv'}"
    clients = Clients()
    with serving("--store", url, "--sync", sync) as one, serving("--store", url, "--sync", sync) as two:
        clients.run([one.port, two.port][:servers], each=100)
    assert len(clients.history) == 8 * 100
    assert violations(clients.history) == []


@pytest.mark.full
@pytest.mark.server
def test_histories_over_disk_with_kills_in_between_are_linearizable(tmp_path: Path) -> None:
    clients = Clients()
    for round_number in range(4):
        with serving("--store", f"disk:{tmp_path / 'data.kv'}") as served:

            def kill(after_s: float = 0.05 + 0.03 * round_number) -> None:
                time.sleep(after_s)
                served.process.kill()

            clients.run([served.port], each=10_000, meanwhile=kill)
    with serving("--store", f"disk:{tmp_path / 'data.kv'}") as served:
        clients.run([served.port], each=20)
    assert len(clients.history) > 300
    assert violations(clients.history) == []
