"""The stores on a cluster whose nodes change or break: replicas, slots that move, a hung node, failover."""

import threading
from collections.abc import Iterator, Sequence

import pytest
from remote_calls import LIMIT, PATIENT, QUICK, fails_in_time, stopped, works_again
from store_calls import apply, get, put
from valkeys import Valkey, need_server, running, wait_until

from kvss_gevent.protocol.wire import Verb
from kvss_gevent.stores.base import StoreError
from kvss_gevent.stores.remote.remote_store import RemoteStore
from kvss_gevent.stores.remote.request import NodeLimits
from kvss_gevent.stores.remote.runtimes import Runtime
from kvss_gevent.stores.remote.slots import slot_of

pytestmark = [pytest.mark.server, pytest.mark.timeout(60)]


@pytest.fixture(scope="module")
def servers() -> Iterator[list[Valkey]]:
    """Three masters, and a replica of the first."""
    need_server()
    with running(4, cluster=True, replicas=1) as found:
        yield found


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


def key_of(servers: Sequence[Valkey], number: int, salt: bytes = b"") -> bytes:
    """Return a key whose slot was given to a master when the cluster was formed."""
    share = 16384 / 3
    return next(
        key
        for key in (b"key%d%b" % (n, salt) for n in range(10_000))
        if int(number * share) <= slot_of(key) < int((number + 1) * share)
    )


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
