"""The store on a cluster of several nodes over TLS: redirections, a slot that moves, a node that dies."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from store_calls import apply, get, put
from valkeys import Valkey, form_cluster, wait_until

from kvss_gevent.cli import main
from kvss_gevent.measure.launch import free_port
from kvss_gevent.settings.config import Config
from kvss_gevent.stores.base import StoreError
from kvss_gevent.stores.remote.access import access_of
from kvss_gevent.stores.remote.greenlets import Greenlets
from kvss_gevent.stores.remote.remote_store import RemoteStore
from kvss_gevent.stores.remote.request import NodeLimits
from kvss_gevent.stores.remote.runtimes import Runtime, Threads
from kvss_gevent.stores.remote.slots import slot_of

pytestmark = [pytest.mark.server, pytest.mark.full]

LIMIT_BYTES = 8 << 20
MASTERS = 3
LARGE = b"x" * 1_000_000
"""Many TLS records, and more than the kernel takes at once."""


@dataclass(frozen=True, slots=True)
class SecureCluster:
    """Three masters and a replica of the first, which speak TLS with each other and with clients."""

    nodes: list[Valkey]
    tls_ports: list[int]
    config: Config

    def address(self, number: int) -> tuple[str, int]:
        return "127.0.0.1", self.tls_ports[number]

    def store(self, runtime: Runtime) -> RemoteStore:
        """Open a store that knows one master only."""
        access = access_of(self.config, "", 0, tls=True)
        store = RemoteStore([self.address(1)], NodeLimits(timeout_s=2.0), access, cluster=True, runtime=runtime)
        store.check()
        return store


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SecureCluster]:
    program = shutil.which("redis-server")
    if not program:
        assert not os.environ.get("CI"), "needs a redis-server with TLS"
        pytest.skip("needs a redis-server with TLS: apt-get install redis-server")
    monkeypatch.setenv("VALKEY_SERVER", program)
    certs = tmp_path / "certs"
    assert main(["tls", "make-dev", str(certs)]) == 0
    ca, cert, key = (str(certs / name) for name in ("ca.pem", "server.pem", "server-key.pem"))
    options = ["--tls-cluster", "yes", "--tls-replication", "yes", "--tls-ca-cert-file", ca]
    options += ["--tls-cert-file", cert, "--tls-key-file", key]
    ports = [free_port() for _ in range(MASTERS + 1)]
    nodes = [
        Valkey(tmp_path / str(number), cluster=True, options=[*options, "--tls-port", str(port)])
        for number, port in enumerate(ports)
    ]
    try:
        for node in nodes:
            node.start()
        form_cluster(nodes[:MASTERS], nodes[MASTERS:])
        yield SecureCluster(nodes, ports, Config(store_ca=ca, store_cert=cert, store_key=key))
    finally:
        for node in nodes:
            node.kill()


def answers(store: RemoteStore, key: bytes) -> bool:
    try:
        return apply(store, [get(key)], LIMIT_BYTES) == [b"v " + key]
    except StoreError:
        return False


@pytest.mark.parametrize("runtime", [Threads, Greenlets])
def test_redirections_a_moved_slot_and_a_dead_node(cluster: SecureCluster, runtime: type[Runtime]) -> None:
    store = cluster.store(runtime())
    keys = [b"%d" % number for number in range(90)]
    gets = [get(key) for key in keys]
    values = [b"v " + key for key in keys]
    masters = {cluster.address(number) for number in range(MASTERS)}
    try:
        assert apply(store, [put(key, b"v " + key) for key in keys], LIMIT_BYTES) == [True] * len(keys)
        owners = {store.owner_of(key).address for key in keys}  # type: ignore[union-attr]
        assert owners == masters, "not all of them are reached at their TLS port"

        for address in sorted(masters):  # each of them answers MOVED to most of these
            store.assign([address] * len(store._owners))
            assert apply(store, gets, LIMIT_BYTES) == values

        assert apply(store, [put(b"large", LARGE), get(b"large")], LIMIT_BYTES) == [True, LARGE]
        key = keys[0]
        slot = slot_of(key)
        source = slot * MASTERS // 16384
        target = (source + 1) % MASTERS
        ids = [node.ask("CLUSTER", "MYID") for node in cluster.nodes]
        cluster.nodes[target].ask("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
        cluster.nodes[source].ask("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
        moved = "MIGRATE", "127.0.0.1", cluster.tls_ports[target], "", 0, 5000, "KEYS", key
        assert cluster.nodes[source].ask(*moved) == b"OK"
        assert answers(store, key), "ASK was not followed"
        for number in (target, source):
            cluster.nodes[number].ask("CLUSTER", "SETSLOT", slot, "NODE", ids[target])
        assert answers(store, key), "MOVED was not followed"

        victim = next(key for key in keys[1:] if slot_of(key) * MASTERS // 16384 == 0)
        spared = next(key for key in keys[1:] if slot_of(key) * MASTERS // 16384 == 1)
        first, replica = cluster.nodes[0], cluster.nodes[MASTERS]
        wait_until(lambda: replica.ask("DBSIZE") == first.ask("DBSIZE"), "no replication")
        first.kill()
        assert answers(store, spared), "a dead node took others with it"
        wait_until(lambda: answers(store, victim), "the replica did not take over")
        assert store.owner_of(victim).address == cluster.address(MASTERS)  # type: ignore[union-attr]
        assert all(answers(store, key) for key in keys)
    finally:
        store.close()
