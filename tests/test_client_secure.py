"""The client library with `kvss serve` that has users and TLS: all four clients, and what each refusal becomes."""

import asyncio
import signal
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import trustme
from serving import Served, serving

from kvss_gevent import AsyncKVClient, AsyncKVPool, KVClient, KVPool
from kvss_gevent.core.password_hash import hash_password
from kvss_gevent.core.user_file import Role, User, change_users
from kvss_gevent.protocol.errors import KVConnectError, KVForbidden, KVUnauthorized

pytestmark = pytest.mark.server

LARGE = b"x" * 300_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("secure")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    trustme.CA().cert_pem.write_to_path(str(folder / "other.pem"))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    for name, role in (("alice", Role.WRITE), ("ray", Role.READ)):
        change_users(folder / "users", name, User(name, role, hash_password(b"open sesame")))
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Served]:
    pem = str(folder / "server.pem")
    with serving("--users", str(folder / "users"), "--tls-cert", pem, "--tls-key", pem) as served:
        yield served


def options(folder: Path, user: str = "alice", password: str = "open sesame", ca: str = "ca.pem") -> dict[str, Any]:
    return {"user": user, "password": password, "tls": folder / ca}


def test_clients_of_threads(server: Served, folder: Path) -> None:
    with KVClient("127.0.0.1", server.port, **options(folder)) as kv:
        assert [kv.put(b"sync", LARGE), kv.get(b"sync"), kv.delete(b"sync")] == [True, LARGE, True]
    with KVPool("127.0.0.1", server.port, size=3, **options(folder)) as pool, ThreadPoolExecutor(6) as threads:
        assert list(threads.map(lambda number: pool.put(b"%d" % number, LARGE), range(12))) == [True] * 12
        assert set(threads.map(lambda number: pool.get(b"%d" % number), range(12))) == {LARGE}


def test_a_pipeline_larger_than_what_the_kernel_takes(server: Served, folder: Path) -> None:
    with KVClient("127.0.0.1", server.port, **options(folder)) as kv:
        pipeline = kv.pipeline()
        for _ in range(20):
            pipeline.put(b"k", LARGE)
            pipeline.get(b"k")
        assert pipeline.execute()[1::2] == [LARGE] * 20


def test_clients_of_asyncio(server: Served, folder: Path) -> None:
    async def use(kv: Any) -> None:
        async with kv:
            keys = [f"async{number}".encode() for number in range(12)]
            await asyncio.gather(*(kv.put(key, LARGE) for key in keys))
            assert set(await asyncio.gather(*(kv.get(key) for key in keys))) == {LARGE}
            assert await asyncio.gather(*(kv.delete(key) for key in keys)) == [True] * 12

    asyncio.run(use(AsyncKVClient("127.0.0.1", server.port, **options(folder))))
    asyncio.run(use(AsyncKVPool("127.0.0.1", server.port, size=2, **options(folder))))


def test_a_server_that_stops_ends_tls_in_good_order(folder: Path) -> None:
    """An alert in place of the end costs clients the replies that they read together with it."""
    pem = str(folder / "server.pem")
    context = ssl.create_default_context(cafile=folder / "ca.pem")
    with (
        serving("--tls-cert", pem, "--tls-key", pem) as server,
        context.wrap_socket(server.connect(), server_hostname="127.0.0.1") as sock,
    ):
        sock.sendall(b"KV/1.0 GET none\n")
        assert sock.recv(100) == b"404 NOT_FOUND\n"
        server.process.send_signal(signal.SIGTERM)
        assert sock.recv(100) == b""


def ask(kind: Any, server: Served, given: dict[str, Any], call: str, *words: bytes, host: str = "127.0.0.1") -> None:
    """Make one call on a new client of any kind."""
    if kind in (KVClient, KVPool):
        with kind(host, server.port, **given) as kv:
            getattr(kv, call)(*words)
        return

    async def ask_it() -> None:
        async with kind(host, server.port, **given) as kv:
            await getattr(kv, call)(*words)

    asyncio.run(ask_it())


@pytest.mark.parametrize("kind", [KVClient, KVPool, AsyncKVClient, AsyncKVPool])
def test_refusals(server: Served, folder: Path, kind: Any) -> None:
    ask(kind, server, options(folder, "ray"), "get", b"k")
    with pytest.raises(KVForbidden):
        ask(kind, server, options(folder, "ray"), "put", b"k", b"v")
    with pytest.raises(KVUnauthorized) as wrong:
        ask(kind, server, options(folder, password="s3cret"), "get", b"k")
    said = f"{wrong.value!r} {wrong.value.__cause__!r}"
    assert "AUTH alice" in said  # the login was refused, and no request was sent behind it
    assert "s3cret" not in said
    with pytest.raises(KVUnauthorized):
        ask(kind, server, {"tls": folder / "ca.pem"}, "get", b"k")
    with pytest.raises(KVConnectError, match="certificate"):
        ask(kind, server, options(folder, ca="other.pem"), "get", b"k")
    with pytest.raises(KVConnectError, match="certificate"):  # it is one for 127.0.0.1
        ask(kind, server, options(folder), "get", b"k", host="localhost")
