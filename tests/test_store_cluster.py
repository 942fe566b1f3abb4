"""The stores on Valkey or Redis, against real servers: results, order, limits, pipelines, addresses."""

import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
import reference_server
import valkey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference_server import State
from remote_calls import LIMIT, stopped
from store_calls import apply, delete, get, put, results
from valkeys import Valkey, need_server, running, wait_until

from kvss_gevent.protocol.wire import Verb
from kvss_gevent.settings.config import Config
from kvss_gevent.stores.base import CannotOpen, Command, StoreError
from kvss_gevent.stores.memory import MemoryStore
from kvss_gevent.stores.open import open_store
from kvss_gevent.stores.remote.remote_store import RemoteStore
from kvss_gevent.stores.remote.request import NodeLimits

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def single() -> Iterator[list[Valkey]]:
    need_server()
    with running(1, cluster=False) as servers:
        yield servers


@pytest.fixture(scope="module")
def cluster() -> Iterator[list[Valkey]]:
    need_server()
    with running(3, cluster=True) as servers:
        yield servers


@pytest.fixture(params=["single", "cluster"])
def servers(request: pytest.FixtureRequest) -> list[Valkey]:
    found: list[Valkey] = request.getfixturevalue(request.param)
    for server in found:
        server.ask("FLUSHALL")
    return found


@pytest.fixture
def store(servers: list[Valkey]) -> Iterator[RemoteStore]:
    opened = open_on(servers)
    yield opened
    opened.close()


def open_on(servers: Sequence[Valkey], limits: NodeLimits | None = None) -> RemoteStore:
    opened = RemoteStore([servers[0].address], limits, cluster=servers[0].cluster)
    opened.check()
    return opened


def get_alone(store: RemoteStore, key: bytes) -> bytes | None:
    """Ask as the greenlets of connections do for a single GET. Raises StoreError."""
    finished = threading.Event()
    outcomes: list[list[bytes | None] | StoreError] = []

    def done(outcome: list[bytes | None] | StoreError) -> None:
        outcomes.append(outcome)
        finished.set()

    store.submit_get(key, LIMIT, done)
    assert finished.wait(10)
    (outcome,) = outcomes
    if isinstance(outcome, StoreError):
        raise outcome
    (value,) = results([get(key)], outcome)  # type: ignore[arg-type]
    return value


def test_a_get_alone_finds_what_a_batch_finds_also_where_the_slot_has_moved(
    store: RemoteStore, servers: list[Valkey]
) -> None:
    keys = [b"%d" % number for number in range(30)]
    apply(store, [put(key, b"value " + key) for key in keys], LIMIT)
    owners = store._owners
    for server in servers:  # none of them has all slots, where there are several
        store.assign([server.address] * len(owners))
        for key in keys:
            assert get_alone(store, key) == b"value " + key
            assert get_alone(store, b"no " + key) is None


def test_a_get_alone_that_fails_says_why(store: RemoteStore, servers: list[Valkey]) -> None:
    owner = store.owner_of(b"a list")
    assert owner is not None
    next(server for server in servers if server.address == owner.address).ask("LPUSH", "a list", "1")
    with pytest.raises(StoreError, match="WRONGTYPE"):
        get_alone(store, b"a list")
    store.assign([None] * len(store._owners))
    with pytest.raises(StoreError, match="no node"):
        get_alone(store, b"a list")


def test_results_tell_new_from_replaced_and_deleted_from_absent(store: RemoteStore) -> None:
    batch = [get(b"a"), put(b"a", b"1"), put(b"a", b"2"), get(b"a"), delete(b"a"), delete(b"a"), get(b"a")]
    assert apply(store, batch, LIMIT) == [None, True, False, b"2", True, False, None]


@pytest.mark.parametrize("value", [b"two\nlines", b"\n", b""])
def test_what_another_program_stored_and_kv_cannot_carry_is_500(
    store: RemoteStore, servers: list[Valkey], value: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with valkey.Valkey(port=store.owner_of(b"k").address[1]) as other:  # type: ignore[union-attr]
        other.set("k", value)
    for replies in (apply(store, [get(b"k"), get(b"none")], LIMIT), [get_alone(store, b"k"), None]):
        assert isinstance(replies[0], StoreError)
        assert replies[1] is None
    assert apply(store, [put(b"k", b"fine"), get(b"k")], LIMIT) == [False, b"fine"]


@pytest.mark.parametrize("reply", [b":7\r\n", b"*1\r\n$1\r\na\r\n", b":0\r\n", b"$1\r\na\r\n"], ids=repr)
def test_a_reply_of_another_type_is_500_in_plain_words(reply: bytes) -> None:
    def converse(sock: socket.socket, _: State) -> None:
        while sock.recv(1 << 16):
            sock.sendall(reply)

    verb = Verb.TTL if reply.startswith(b"$") else Verb.GET
    with reference_server.running(converse) as port:
        store = RemoteStore([("127.0.0.1", port)])
        with pytest.raises(StoreError, match="a reply has another type than Valkey and Redis give"):
            store.apply([(verb, b"k", b"")], LIMIT)
        store.close()


def test_keys_and_values_are_bytes(store: RemoteStore) -> None:
    pairs = [
        (b"\x00\xff{}\r", b"\r\x00"),
        ("schlüssel{".encode(), b"$5"),
        (b"k" * 511, b"v" * (1 << 20)),
        (b"{x}y", b"+OK"),
    ]
    assert apply(store, [put(*pair) for pair in pairs], 8 * LIMIT) == [True] * 4
    for key, value in pairs:
        assert apply(store, [get(key)], LIMIT) == [value]


def test_count_is_over_all_masters(store: RemoteStore, servers: list[Valkey]) -> None:
    apply(store, [put(b"k%d" % number) for number in range(100)], LIMIT)
    assert store.count() == 100
    if len(servers) > 1:
        assert all(0 < server.ask("DBSIZE") < 100 for server in servers)


KEYS = st.sampled_from([b"a", b"b", b"c", b"{a}1", b"longer key"])
VALUES = st.binary(min_size=1, max_size=40).map(lambda value: value.replace(b"\n", b"-"))
COMMANDS = st.one_of(
    st.builds(get, KEYS),
    st.builds(delete, KEYS),
    st.builds(put, KEYS, VALUES),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.lists(COMMANDS, max_size=20), max_size=6), limit_bytes=st.integers(1, 100))
def test_it_does_what_a_dict_does(
    store: RemoteStore, servers: list[Valkey], batches: list[list[Command]], limit_bytes: int
) -> None:
    for server in servers:
        server.ask("FLUSHALL")
    model = MemoryStore()
    for batch in batches:
        left = batch
        while left:
            found = apply(store, left, limit_bytes)
            assert found, "at least one command is run"
            assert found == apply(model, left[: len(found)], 1 << 30)
            left = left[len(found) :]
    assert store.count() == model.count()


def test_writers_at_the_same_time_each_learn_what_they_did(store: RemoteStore) -> None:
    """For each key, creations less deletions is what is left: 201 and 204 are exact."""
    keys = [b"k%d" % number for number in range(6)]
    balance = dict.fromkeys(keys, 0)
    lock = threading.Lock()
    faults: list[Exception] = []

    def write(seed: int) -> None:
        try:
            for turn in range(60):
                batch = [
                    put(keys[(seed + turn) % 6]),
                    delete(keys[(seed * turn) % 6]),
                    put(keys[turn % 6], b"%d" % seed),
                ]
                results = apply(store, batch, LIMIT)
                with lock:
                    for (verb, key, _), result in zip(batch, results, strict=True):
                        balance[key] += bool(result) if verb is Verb.PUT else -bool(result)
        except Exception as fault:
            faults.append(fault)

    run_all([threading.Thread(target=write, args=(seed,)) for seed in range(8)])
    assert not faults
    for key in keys:
        assert balance[key] == (apply(store, [get(key)], LIMIT) != [None])


def run_all(threads: Sequence[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)


def test_work_of_many_travels_in_few_round_trips(single: list[Valkey]) -> None:
    store = open_on(single, NodeLimits(timeout_s=30.0))
    node = store.node(single[0].address)
    before = node.pipelines
    outcomes: list[object] = []
    try:
        single[0].ask("CONFIG", "RESETSTAT")
        with stopped(single[0]):
            for number in range(50):
                store.submit([get(b"k%d" % number)] * 3, LIMIT, outcomes.append)
        wait_until(lambda: len(outcomes) == 50, "not all were answered")
        assert single[0].calls("get") == 150
        assert node.pipelines - before < 25
    finally:
        store.close()


def test_large_values_end_a_batch_early_and_the_rest_can_be_asked_again(store: RemoteStore) -> None:
    value = b"x" * 1000
    batch = [get(b"k%d" % number) for number in range(20)]
    apply(store, [put(key, value) for _, key, _ in batch], LIMIT)
    for _ in range(2):  # the first time it does not know yet how large values are
        results = apply(store, batch, 5000)
        assert results == [value] * 6
    mixed = [get(b"k1"), get(b"k2"), put(b"k1", b"new"), get(b"k1")]
    done = apply(store, mixed, 500)
    assert done == [value, value, False, b"new"][: len(done)]


def test_a_batch_that_would_bring_far_too_much_is_refused_rather_than_kept(store: RemoteStore) -> None:
    """Nothing is cut after a GET that a write follows: its value would be another one when asked again."""
    value = b"x" * 1000
    for number in range(60):
        apply(store, [put(b"{k}%d" % number, value)], LIMIT)
    batch = [get(b"{k}%d" % number) for number in range(60)] + [put(b"{k}0", b"new")]
    with pytest.raises(StoreError, match="in one pipeline"):
        apply(store, batch, 1000)
    # A batch that failed may have taken effect (rule 10). Now the size is known, and less is asked for at a time.
    assert apply(store, batch, 1000) == [b"new", value]


def test_a_key_of_another_kind_fails_its_batch(store: RemoteStore, servers: list[Valkey]) -> None:
    for server in servers:
        server.ask("CONFIG", "RESETSTAT")
    owner = store.owner_of(b"list")
    assert owner is not None
    next(server for server in servers if server.address == owner.address).ask("LPUSH", "list", "1")
    for command in (get(b"list"), put(b"list")):
        with pytest.raises(StoreError, match="WRONGTYPE"):
            apply(store, [command], LIMIT)
    assert apply(store, [delete(b"list")], LIMIT) == [True]


def test_a_full_server_fails_writes_and_not_reads(single: list[Valkey]) -> None:
    store = open_on(single)
    try:
        apply(store, [put(b"here", b"1")], LIMIT)
        single[0].ask("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(StoreError, match="maxmemory"):
            apply(store, [put(b"more", b"1")], LIMIT)
        assert apply(store, [get(b"here"), delete(b"here")], LIMIT) == [b"1", True]
    finally:
        single[0].ask("CONFIG", "SET", "maxmemory", "0")
        store.close()


def test_closing_ends_the_threads(servers: list[Valkey]) -> None:
    before = threading.active_count()
    store = open_on(servers)
    apply(store, [get(b"k%d" % number) for number in range(10)], LIMIT)
    assert threading.active_count() > before
    store.close()
    store.close()
    assert threading.active_count() == before
    with pytest.raises(StoreError):
        apply(store, [get(b"k")], LIMIT)


def test_databases_of_one_server_are_apart(single: list[Valkey]) -> None:
    config = Config(store=f"redis://127.0.0.1:{single[0].port}/1")
    one, two = open_store(config), open_store(replace(config, store=config.store[:-1] + "2"))
    try:
        apply(one, [put(b"k", b"1")], LIMIT)
        assert apply(two, [get(b"k")], LIMIT) == [None]
    finally:
        one.close()
        two.close()


def test_one_of_a_cluster_is_not_taken_for_a_single_server(cluster: list[Valkey]) -> None:
    store = RemoteStore([cluster[0].address])
    try:
        with pytest.raises(StoreError, match="MOVED"):
            apply(store, [get(b"a"), get(b"b"), get(b"c"), get(b"d"), get(b"e")], LIMIT)
    finally:
        store.close()


def test_a_single_server_is_not_taken_for_a_cluster(single: list[Valkey]) -> None:
    with pytest.raises(CannotOpen, match="cluster support disabled"):
        open_store(Config(store=f"cluster://127.0.0.1:{single[0].port}"))
