"""Gathering writes: what arrives during one transaction shares the next, reads do not wait, every wait has an end."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gevent
import pytest
from store_calls import Result, apply

from kvss_gevent.protocol.wire import Verb
from kvss_gevent.stores.base import Batch, Command, Job, ReplyTable, StoreError
from kvss_gevent.stores.disk.disk_store import DiskStore
from kvss_gevent.stores.disk.gathering import gathering
from kvss_gevent.stores.disk.group_commit import GroupCommit
from kvss_gevent.stores.memory import MemoryStore

NO_LIMIT = 1 << 30


class Gated:
    """A store whose transactions wait for `gate` before they begin; it remembers them and the thread they ran on."""

    blocks = True
    run = put = None
    replies = ReplyTable()

    def __init__(self) -> None:
        self.inner = MemoryStore()
        self.gate = threading.Event()
        self.began = threading.Event()
        self.transactions: list[int] = []
        self.threads: set[int] = set()
        self.fault: Exception | None = None
        self.closed = 0
        self.delay_s = 0.0

    def has_ended(self) -> bool:
        return False

    def transact(self, jobs: Sequence[Job]) -> list[Any]:
        self.transactions.append(len(jobs))
        self.threads.add(threading.get_ident())
        self.began.set()
        self.gate.wait(20)
        time.sleep(self.delay_s)
        if self.fault:
            raise self.fault
        return [self.inner.apply(*job) for job in jobs]

    def read(self, batch: Batch, limit_bytes: int) -> list[bytes]:
        return self.inner.apply(batch, limit_bytes)

    apply = read

    def count(self) -> int:
        return self.inner.count()

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def gated() -> Iterator[Gated]:
    store = Gated()
    yield store
    store.gate.set()


@pytest.fixture
def make(gated: Gated) -> Iterator[Callable[..., GroupCommit]]:
    made = []

    def make_one(**options: float) -> GroupCommit:
        made.append(GroupCommit(gated, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make_one
    gated.gate.set()
    for store in made:
        store.close()


def put(store: GroupCommit, key: bytes, value: bytes = b"1") -> Result | StoreError:
    try:
        return apply(store, [(Verb.PUT, key, value)], NO_LIMIT)[0]
    except StoreError as fault:
        return fault


def begun(store: GroupCommit, gated: Gated, key: bytes = b"first") -> gevent.Greenlet:
    """Return a greenlet whose transaction has begun and waits at the gate."""
    first = gevent.spawn(put, store, key)
    while not gated.began.is_set():
        gevent.sleep(0.001)
    return first


def test_what_arrives_during_one_transaction_shares_the_next(gated: Gated, make: Callable[..., GroupCommit]) -> None:
    store = make()
    first = begun(store, gated)
    others = [gevent.spawn(put, store, b"%d" % (number // 2)) for number in range(50)]
    gevent.sleep(0)
    gated.gate.set()
    gevent.joinall([first, *others], timeout=20, raise_error=True)
    assert gated.transactions == [1, 50]
    assert [other.value for other in others] == [True, False] * 25
    assert len(gated.threads) == 1
    assert threading.get_ident() not in gated.threads


def test_who_was_just_answered_and_writes_again_is_in_the_next_transaction(
    gated: Gated, make: Callable[..., GroupCommit]
) -> None:
    store = make(latest_s=20.0)

    def client() -> None:
        for number in range(5):
            put(store, b"%d" % number)
            gevent.sleep(0)

    clients = [gevent.spawn(client)]
    while not gated.began.is_set():
        gevent.sleep(0.001)
    clients += [gevent.spawn(client) for _ in range(9)]
    gevent.sleep(0)
    gated.gate.set()
    gevent.joinall(clients, timeout=20, raise_error=True)
    # One was ahead of nine; they did not take turns until the end.
    assert gated.transactions == [1, 10, 10, 10, 10, 9]


def test_a_transaction_does_not_wait_for_an_event_loop_that_is_never_idle(
    gated: Gated, make: Callable[..., GroupCommit]
) -> None:
    store = make(latest_s=0.01)
    gated.gate.set()
    writing = gevent.spawn(put, store, b"a")
    with gevent.Timeout(20):
        while not writing.dead:
            gevent.sleep(0)
    assert writing.value is True
    assert not store._when_idle.active


def test_writes_of_one_round_of_the_event_loop_go_together(gated: Gated, make: Callable[..., GroupCommit]) -> None:
    store = make(latest_s=20.0)
    gated.gate.set()
    gevent.joinall([gevent.spawn(put, store, b"%d" % number) for number in range(50)], timeout=20, raise_error=True)
    assert gated.transactions == [50]


def test_reads_go_on_while_a_transaction_runs(gated: Gated, make: Callable[..., GroupCommit]) -> None:
    store = make()
    apply(gated.inner, [(Verb.PUT, b"a", b"1")], NO_LIMIT)
    first = begun(store, gated)
    assert apply(store, [(Verb.GET, b"a", b""), (Verb.GET, b"first", b"")], NO_LIMIT) == [b"1", None]
    assert store.count() == 1
    assert not first.ready()


def test_a_fault_is_everyone_s_own(gated: Gated, make: Callable[..., GroupCommit]) -> None:
    store = make()
    gated.gate.set()
    for fault in (StoreError("no disk"), ZeroDivisionError("planted")):
        gated.fault = fault
        greenlets = [gevent.spawn(put, store, b"a") for _ in range(3)]
        gevent.joinall(greenlets, timeout=20, raise_error=True)
        assert [str(greenlet.value) for greenlet in greenlets] == [str(fault)] * 3
        assert len({id(greenlet.value) for greenlet in greenlets}) == 3
    gated.fault = None
    assert put(store, b"a") is True


def test_more_than_max_waiting_bytes_is_refused_at_once(gated: Gated, make: Callable[..., GroupCommit]) -> None:
    store = make(max_waiting_bytes=1000)
    first = begun(store, gated)
    second = gevent.spawn(put, store, b"second", b"x" * 900)
    gevent.sleep(0)
    assert isinstance(put(store, b"third", b"x" * 101), StoreError)
    gated.gate.set()
    gevent.joinall([first, second], timeout=20, raise_error=True)
    assert (first.value, second.value) == (True, True)
    assert put(store, b"third", b"x" * 2000) is True, "one batch larger than the limit has its turn alone"


def test_a_disk_that_hangs_is_given_up_and_comes_back(gated: Gated, make: Callable[..., GroupCommit]) -> None:
    store = make(stall_s=0.05)
    first = begun(store, gated)
    second = gevent.spawn(put, store, b"second")
    gevent.joinall([first, second], timeout=20, raise_error=True)
    assert isinstance(first.value, StoreError)
    assert isinstance(second.value, StoreError)
    assert isinstance(put(store, b"third"), StoreError), "refused at once"
    assert apply(store, [(Verb.GET, b"a", b"")], NO_LIMIT) == [None]
    gated.gate.set()
    with gevent.Timeout(20):
        while isinstance(put(store, b"third"), StoreError):
            gevent.sleep(0.01)
    assert apply(store, [(Verb.GET, b"first", b""), (Verb.GET, b"second", b"")], NO_LIMIT) == [b"1", None]


def test_bytes_that_were_committed_no_longer_count(gated: Gated, make: Callable[..., GroupCommit]) -> None:
    store = make(max_waiting_bytes=1000)
    gated.gate.set()
    for _ in range(5):
        pair = [gevent.spawn(put, store, key, b"x" * 400) for key in (b"a", b"b")]
        gevent.joinall(pair, timeout=20, raise_error=True)
        assert [one.value for one in pair if isinstance(one.value, StoreError)] == []


def test_bytes_that_were_given_up_no_longer_count(gated: Gated, make: Callable[..., GroupCommit]) -> None:
    store = make(max_waiting_bytes=1000, stall_s=0.05)
    given_up = [begun(store, gated), gevent.spawn(put, store, b"second", b"x" * 900)]
    gevent.joinall(given_up, timeout=20, raise_error=True)
    gated.gate.set()
    with gevent.Timeout(20):
        while isinstance(put(store, b"third"), StoreError):
            gevent.sleep(0.01)
    store._stall_s = 20.0  # the disk is no longer asked to be quick
    pair = [gevent.spawn(put, store, key, b"x" * 400) for key in (b"a", b"b")]
    gevent.joinall(pair, timeout=20, raise_error=True)
    assert [one.value for one in pair] == [True, True]


def test_a_refusal_while_the_disk_hangs_waits_for_nothing(gated: Gated, make: Callable[..., GroupCommit]) -> None:
    store = make(stall_s=0.05)
    begun(store, gated).join(20)
    others_ran: list[int] = []
    gevent.spawn(others_ran.append, 1)
    assert isinstance(put(store, b"a"), StoreError)
    assert others_ran == [], "not even a round of the event loop"
    assert gated.transactions == [1]


def test_a_transaction_takes_a_bounded_number_of_batches(gated: Gated, make: Callable[..., GroupCommit]) -> None:
    store = make()
    first = begun(store, gated)
    others = [gevent.spawn(put, store, b"%d" % number) for number in range(1034)]
    gevent.sleep(0)
    gated.gate.set()
    gevent.joinall([first, *others], timeout=20, raise_error=True)
    assert gated.transactions == [1, 1024, 10]
    assert all(other.value is True for other in others)


def test_a_disk_that_is_slow_all_the_time_does_not_hang(gated: Gated, make: Callable[..., GroupCommit]) -> None:
    store = make(stall_s=0.5)
    gated.gate.set()
    gated.delay_s = 0.02
    assert [put(store, b"%d" % number) for number in range(30)] == [True] * 30


def test_a_greenlet_that_is_killed_while_it_waits_harms_nobody(gated: Gated, make: Callable[..., GroupCommit]) -> None:
    store = make()
    first = begun(store, gated)
    second = gevent.spawn(put, store, b"second")
    gevent.sleep(0)
    first.kill()
    gated.gate.set()
    second.join(20)
    assert second.value is True
    assert store.count() == 2


def test_a_greenlet_that_was_killed_and_waits_for_something_else_is_left_alone(
    gated: Gated, make: Callable[..., GroupCommit]
) -> None:
    store = make()

    def survive() -> str:
        try:
            put(store, b"first")
        except gevent.GreenletExit:
            gevent.sleep(0.05)  # to be woken from it by anything else raises
        return "slept"

    survivor = gevent.spawn(survive)
    while not gated.began.is_set():
        gevent.sleep(0.001)
    survivor.kill(block=False)
    gevent.sleep(0)
    gated.gate.set()
    survivor.join(20)
    assert survivor.value == "slept"


def test_close_commits_what_waits_and_refuses_what_comes(gated: Gated, make: Callable[..., GroupCommit]) -> None:
    store = make()
    waiting = [begun(store, gated), *(gevent.spawn(put, store, b"%d" % number) for number in range(5))]
    gevent.sleep(0)
    closing = gevent.spawn(store.close)
    gevent.sleep(0)
    assert isinstance(put(store, b"late"), StoreError)
    gated.gate.set()
    gevent.joinall([closing, *waiting], timeout=20, raise_error=True)
    assert [greenlet.value for greenlet in waiting] == [True] * 6
    assert gated.closed == 1
    store.close()
    assert gated.closed == 1


def test_a_get_behind_a_put_of_its_own_batch_sees_it(tmp_path: Path) -> None:
    store = gathering(DiskStore(tmp_path / "data.kv"), synced=True)
    batch: list[Command] = [(Verb.GET, b"a", b""), (Verb.PUT, b"a", b"1"), (Verb.GET, b"a", b""), (Verb.DEL, b"a", b"")]
    assert apply(store, [*batch, (Verb.GET, b"a", b"")], NO_LIMIT) == [None, True, b"1", True, None]
    store.close()


def test_a_store_without_transactions_is_left_as_it_is() -> None:
    store = MemoryStore()
    assert gathering(store, synced=True) is store
    assert gathering(store, synced=False) is store
