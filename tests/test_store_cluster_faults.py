"""The stores on Valkey or Redis when one server breaks: lost and late replies, a dead and a hung server."""

import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from proxy import Proxy
from remote_calls import BOUND_S, LIMIT, PATIENT, QUICK, fails_in_time, stopped, works_again
from store_calls import apply, get, put
from valkeys import Valkey, need_server, running, wait_until

from kvss_gevent.protocol.wire import Verb
from kvss_gevent.stores.base import Command, StoreError
from kvss_gevent.stores.remote.node import FRESH_S, REST_S
from kvss_gevent.stores.remote.remote_store import RemoteStore
from kvss_gevent.stores.remote.request import NodeLimits
from kvss_gevent.stores.remote.runtimes import Runtime

pytestmark = [pytest.mark.server, pytest.mark.timeout(60)]


@pytest.fixture
def server() -> Iterator[Valkey]:
    need_server()
    with running(1, cluster=False) as (found,):
        yield found


@pytest.fixture
def proxied(server: Valkey, runtime: Runtime) -> Iterator[tuple[RemoteStore, Proxy]]:
    proxy = Proxy(server.address)
    store = RemoteStore([proxy.address], QUICK, runtime=runtime)
    store.check()
    yield store, proxy
    store.close()
    proxy.close()


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
