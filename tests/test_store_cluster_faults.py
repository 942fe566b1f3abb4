"""The stores on Valkey or Redis when something breaks: lost replies, dead and hung servers, moved slots, failover."""

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress

import pytest
from proxy import Proxy
from store_calls import Result, apply
from valkeys import Valkey, need_server, running, wait_until

from kvss_gevent.protocol.wire import Verb
from kvss_gevent.stores.base import Command, StoreError
from kvss_gevent.stores.remote.greenlets import Greenlets
from kvss_gevent.stores.remote.node import FRESH_S, REST_S
from kvss_gevent.stores.remote.remote_store import RemoteStore
from kvss_gevent.stores.remote.request import NodeLimits
from kvss_gevent.stores.remote.runtimes import Runtime, Threads
from kvss_gevent.stores.remote.slots import slot_of

pytestmark = [pytest.mark.server, pytest.mark.timeout(60)]

LIMIT = 1 << 20
QUICK = NodeLimits(timeout_s=0.4)
PATIENT = NodeLimits(timeout_s=10.0)
"""For what must succeed, also where a process stands still for a while."""
BOUND_S = 3 * QUICK.timeout_s + 1.0
"""What a batch may take with QUICK, and a second for a busy machine."""


@pytest.fixture(scope="module")
def servers() -> Iterator[list[Valkey]]:
    """Three masters, and a replica of the first."""
    need_server()
    with running(4, cluster=True, replicas=1) as found:
        yield found


@pytest.fixture
def server() -> Iterator[Valkey]:
    need_server()
    with running(1, cluster=False) as (found,):
        yield found


@pytest.fixture(params=[Threads, Greenlets])
def runtime(request: pytest.FixtureRequest) -> Runtime:
    made: Runtime = request.param()
    return made


@pytest.fixture
def threaded(servers: list[Valkey]) -> Iterator[RemoteStore]:
    opened = RemoteStore([servers[1].address], QUICK, cluster=True)
    opened.check()
    yield opened
    opened.close()


@pytest.fixture
def store(servers: list[Valkey], runtime: Runtime) -> Iterator[RemoteStore]:
    opened = RemoteStore([servers[1].address], PATIENT, cluster=True, runtime=runtime)
    opened.check()
    yield opened
    opened.close()


@pytest.fixture
def proxied(server: Valkey, runtime: Runtime) -> Iterator[tuple[RemoteStore, Proxy]]:
    proxy = Proxy(server.address)
    store = RemoteStore([proxy.address], QUICK, runtime=runtime)
    store.check()
    yield store, proxy
    store.close()
    proxy.close()


def put(key: bytes, value: bytes = b"v") -> Command:
    return Verb.PUT, key, value


def get(key: bytes) -> Command:
    return Verb.GET, key, b""


def fails_in_time(store: RemoteStore, batch: Sequence[Command]) -> StoreError:
    """Run a batch that must fail within the bound; return the error."""
    started_s = time.monotonic()
    with pytest.raises(StoreError) as error:
        apply(store, batch, LIMIT)
    assert time.monotonic() - started_s < BOUND_S
    return error.value


def works_again(store: RemoteStore, batch: Sequence[Command]) -> list[Result]:
    """Run a batch until it succeeds."""
    results: list[list[Result]] = []

    def attempt() -> bool:
        with suppress(StoreError):
            results.append(apply(store, batch, LIMIT))
        return bool(results)

    wait_until(attempt, "the store did not recover")
    return results[0]


def key_of(servers: Sequence[Valkey], number: int, salt: bytes = b"") -> bytes:
    """Return a key whose slot was given to a master when the cluster was formed."""
    share = 16384 / 3
    return next(
        key
        for key in (b"key%d%b" % (n, salt) for n in range(10_000))
        if int(number * share) <= slot_of(key) < int((number + 1) * share)
    )


@pytest.mark.timing
@pytest.mark.parametrize(("command", "counted"), [(put(b"k"), "set"), ((Verb.DEL, b"k", b""), "del")])
def test_a_write_whose_reply_is_lost_fails_and_is_not_repeated(
    server: Valkey, proxied: tuple[RemoteStore, Proxy], command: Command, counted: str
) -> None:
    store, proxy = proxied
    proxy.swallow_replies = True
    fails_in_time(store, [command])
    proxy.swallow_replies = False
    assert works_again(store, [get(b"other")]) == [None]
    assert server.calls(counted) == 1


@pytest.mark.timing
def test_replies_that_were_lost_are_never_taken_for_those_of_later_batches(
    proxied: tuple[RemoteStore, Proxy],
) -> None:
    store, proxy = proxied
    apply(store, [put(b"a", b"1"), put(b"b", b"2")], LIMIT)
    proxy.swallow_replies = True
    fails_in_time(store, [get(b"a")])
    proxy.swallow_replies = False
    assert works_again(store, [get(b"b")]) == [b"2"]


@pytest.mark.timing
def test_replies_that_trickle_in_are_given_up_and_not_taken_for_others(
    proxied: tuple[RemoteStore, Proxy],
) -> None:
    """No single wait is too long, only all of them together."""
    store, proxy = proxied
    for number in range(4):
        apply(store, [put(b"large%d" % number, b"x" * (1 << 20))], LIMIT)
    apply(store, [put(b"small", b"2")], LIMIT)
    proxy.pause_s = QUICK.timeout_s / 8
    # As two batches, so that the replies to the second are on their way when the first is given up.
    outcomes: list[object] = []
    for keys in ((0, 1), (2, 3)):
        store.submit([get(b"large%d" % number) for number in keys], 8 * LIMIT, outcomes.append)
    fails_in_time(store, [get(b"small")])
    proxy.pause_s = 0.0
    assert works_again(store, [get(b"small")]) == [b"2"]


def test_many_writers_over_lost_replies_repeat_nothing(server: Valkey) -> None:
    proxy = Proxy(server.address)
    store = RemoteStore([proxy.address], QUICK)
    attempts = 0
    lock = threading.Lock()
    stop = threading.Event()

    def write(number: int) -> None:
        nonlocal attempts
        while not stop.is_set():
            with lock:
                attempts += 1
            with suppress(StoreError):
                apply(store, [put(b"k%d" % number)], LIMIT)
            time.sleep(0.002)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(2):
        time.sleep(0.1)
        proxy.swallow_replies = True
        time.sleep(QUICK.timeout_s + REST_S / 2)
        proxy.swallow_replies = False
    stop.set()
    for thread in threads:
        thread.join(10)
    store.close()
    proxy.close()
    assert 0 < server.calls("set") <= attempts


@pytest.mark.timing
def test_a_dead_server_fails_in_time_and_its_return_is_noticed(server: Valkey, runtime: Runtime) -> None:
    store = RemoteStore([server.address], QUICK, runtime=runtime)
    try:
        apply(store, [put(b"k")], LIMIT)
        server.kill()
        for _ in range(3):
            fails_in_time(store, [get(b"k")])
        fails_in_time(store, [put(b"k")])
        with pytest.raises(StoreError):
            store.count()
        server.start()
        assert works_again(store, [get(b"k")]) == [None]
    finally:
        store.close()


def test_a_connection_that_the_server_closed_while_idle_costs_nobody_an_error(server: Valkey, runtime: Runtime) -> None:
    store = RemoteStore([server.address], PATIENT, runtime=runtime)
    try:
        apply(store, [put(b"k")], LIMIT)
        server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        time.sleep(1.5 * FRESH_S)
        assert apply(store, [put(b"k")], LIMIT) == [False]
    finally:
        store.close()


@pytest.mark.timing
def test_work_for_a_hung_server_is_bounded_in_time_and_memory(server: Valkey) -> None:
    limits = NodeLimits(timeout_s=0.4, queue_bytes=100_000)
    store = RemoteStore([server.address], limits)
    outcomes: list[object] = []
    try:
        store.check()
        with stopped(server):
            started_s = time.monotonic()
            for number in range(100):
                store.submit([put(b"k%d" % number, b"x" * 10_000)], LIMIT, outcomes.append)
            refused = len(outcomes)
            assert refused >= 80  # at once, for about ten fit into the queue and as many are under way
            assert all("too much work" in str(outcome) for outcome in outcomes)
            wait_until(lambda: len(outcomes) == 100, "not all were answered")
            assert time.monotonic() - started_s < BOUND_S
            assert all(isinstance(outcome, StoreError) for outcome in outcomes)
        assert works_again(store, [get(b"none")]) == [None]
    finally:
        store.close()


class stopped:
    """A server that neither answers nor ends, for the length of the block."""

    def __init__(self, server: Valkey) -> None:
        assert server.process
        self.pid = server.process.pid

    def __enter__(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def __exit__(self, *_: object) -> None:
        os.kill(self.pid, signal.SIGCONT)


def test_writes_wait_for_as_many_replicas_as_asked(servers: list[Valkey]) -> None:
    key = key_of(servers, 0)
    for wanted, timeout_s in ((1, PATIENT.timeout_s), (2, 3.0)):  # half of it passes in vain
        limits = NodeLimits(timeout_s=timeout_s, replicas_ack=wanted)
        store = RemoteStore([servers[0].address], limits, cluster=True)
        try:
            store.check()
            if wanted == 1:
                assert apply(store, [put(key, b"1")], LIMIT) == [True]
            else:
                with pytest.raises(StoreError, match="1 of 2 replicas"):
                    apply(store, [put(key, b"2")], LIMIT)
                assert apply(store, [get(key)], LIMIT) == [b"2"]  # not acknowledged is not undone
        finally:
            store.close()


def test_a_slot_that_is_moving_and_has_moved_is_followed(
    servers: list[Valkey], store: RemoteStore, runtime: Runtime
) -> None:
    """ASK sends single commands on, MOVED all that come later; order within a batch stays."""
    tag = type(runtime).__name__.encode()
    here, absent = b"{%b}here" % tag, b"{%b}absent" % tag
    slot = slot_of(here)
    source, target = (servers[n] for n in {0: (0, 1), 1: (1, 2), 2: (2, 1)}[slot * 3 // 16384])
    apply(store, [put(here, b"1")], LIMIT)
    target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.ask("CLUSTER", "MYID"))
    source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target.ask("CLUSTER", "MYID"))
    batch = [get(here), put(absent, b"2"), get(absent), put(absent, b"3"), get(absent), get(here)]
    assert apply(store, batch, LIMIT) == [b"1", True, b"2", False, b"3", b"1"]
    source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", here)
    assert apply(store, [get(here), get(absent)], LIMIT) == [b"1", b"3"]
    for node in (target, source):
        node.ask("CLUSTER", "SETSLOT", slot, "NODE", target.ask("CLUSTER", "MYID"))
    assert apply(store, [get(here), (Verb.DEL, here, b""), get(here), get(absent)], LIMIT) == [b"1", True, None, b"3"]
    wait_until(lambda: store.owner_of(here) is store.node(target.address), "the new owner was not noticed")


@pytest.mark.timing
def test_a_hung_node_does_not_hold_up_the_others(servers: list[Valkey], threaded: RemoteStore) -> None:
    store = threaded
    on_hung, on_other = key_of(servers, 2), key_of(servers, 1)
    apply(store, [put(on_hung), put(on_other)], LIMIT)
    failed: list[StoreError] = []
    with stopped(servers[2]):
        waiting = threading.Thread(target=lambda: failed.append(fails_in_time(store, [get(on_hung)])))
        waiting.start()
        answered = 0
        while waiting.is_alive():
            assert apply(store, [get(on_other)], LIMIT) == [b"v"]
            answered += 1
        assert failed
        assert answered > 3
    assert works_again(store, [get(on_hung)]) == [b"v"]


@pytest.mark.full
def test_a_failover_and_a_dead_cluster_are_survived(runtime: Runtime) -> None:
    need_server()
    with running(4, cluster=True, replicas=1) as servers:
        store = RemoteStore([servers[1].address], QUICK, cluster=True, runtime=runtime)
        try:
            store.check()
            survive(servers, store)
        finally:
            store.close()


def survive(servers: list[Valkey], store: RemoteStore) -> None:
    first, *_, replica = servers
    threads = threading.active_count()
    lost, kept = key_of(servers, 0, b"x"), key_of(servers, 1, b"x")
    apply(store, [put(lost, b"1"), put(kept, b"2")], LIMIT)
    wait_until(lambda: replica.ask("DBSIZE") == first.ask("DBSIZE"), "no replication")
    first.kill()
    fails_in_time(store, [put(lost, b"0")])
    assert apply(store, [get(kept)], LIMIT) == [b"2"]
    assert works_again(store, [get(lost)])[0] in (b"1", b"0")
    assert store.owner_of(lost) is store.node(replica.address)
    wait_until(lambda: threading.active_count() <= threads, "the thread of the dead master stayed")
    for server in servers:
        server.kill()
    for _ in range(3):
        fails_in_time(store, [put(lost), put(kept)])
    assert threading.active_count() <= threads
