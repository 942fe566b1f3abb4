"""The clients for asyncio on both event loops: connections that end, calls that are cancelled, clients that close."""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvloop
from fake_server import Handler, Peer, fake_server, honest, in_turn
from serving import deaf_port

from kvss_gevent import AsyncKVClient, AsyncKVPool, KVConnectError, KVConnectionLost
from kvss_gevent.client import asyncio_connection

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run a coroutine in an event loop of its own."""

    def in_a_loop(main: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=request.param) as runner:
            return runner.run(main)

    return in_a_loop


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An authority, and a server's certificate and key in one file."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    return folder / "ca.pem", folder / "server.pem"


def close(sock: socket.socket) -> None:
    sock.close()


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@pytest.mark.parametrize("end", [close, reset])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_an_end_that_came_while_the_loop_was_busy_loses_no_write(
    run: Run,
    tls: bool,
    end: Callable[[socket.socket], None],
    certificate: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(asyncio_connection, "_STALE_S", 0.0)
    authority, pem = certificate
    busy, ended = threading.Event(), threading.Event()

    def once(peer: Peer) -> None:
        peer.line()
        peer.send(b"404 NOT_FOUND\n")
        busy.wait(20)
        end(peer.sock)
        ended.set()

    async def use(port: int) -> tuple[bool, int]:
        async with AsyncKVClient("127.0.0.1", port, tls=authority if tls else False, timeout_s=20) as kv:
            assert await kv.get(b"k") is None
            busy.set()
            ended.wait(20)
            return await kv.put(b"k", b"v"), kv.connections_made

    with fake_server(in_turn(once, honest()), certificate=pem if tls else None) as server:
        assert run(use(server.port)) == (True, 2)


def test_a_refused_connection_is_told_in_the_systems_words(run: Run) -> None:
    with (
        deaf_port() as port,
        pytest.raises(KVConnectError, match=f"^GET k: cannot connect to 127.0.0.1:{port}: Connection refused$"),
    ):
        run(AsyncKVClient("127.0.0.1", port).get(b"k"))


def until_it_ends(gone: threading.Event) -> Handler:
    def handle(peer: Peer) -> None:
        with suppress(ConnectionResetError):
            while peer.line():
                pass
        gone.set()

    return handle


def test_a_client_that_is_closed_while_it_connects_leaves_no_connection(
    run: Run, certificate: tuple[Path, Path]
) -> None:
    gone = threading.Event()

    async def use(port: int) -> object:
        kv = AsyncKVClient("127.0.0.1", port, tls=certificate[0])  # the server does not answer the handshake
        calls = [asyncio.ensure_future(kv.get(b"k")) for _ in range(2)]
        while not server.accepted:
            await asyncio.sleep(0.001)
        calls[0].cancel()
        await kv.close()
        cancelled, lost = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(cancelled, asyncio.CancelledError)
        return lost

    with fake_server(until_it_ends(gone)) as server:
        lost = run(use(server.port))
        assert isinstance(lost, KVConnectionLost)
        assert str(lost) == f"GET k: lost the connection to 127.0.0.1:{server.port}: the client closed it"
        assert gone.wait(20)


def test_a_client_that_is_closed_in_the_turn_in_which_it_has_connected_leaves_no_connection(run: Run) -> None:
    gone = threading.Event()

    async def use(port: int) -> None:
        kv = AsyncKVClient("127.0.0.1", port)
        call = asyncio.ensure_future(kv.connect())
        while not (kv._connecting and kv._connecting.done()):  # it has connected, and its callbacks come next
            await asyncio.sleep(0)
        await kv.close()
        await call
        assert await asyncio.to_thread(gone.wait, 20)

    with fake_server(until_it_ends(gone)) as server:
        run(use(server.port))


def test_a_connection_that_owes_a_reply_to_a_cancelled_call_is_lent_to_nobody(run: Run) -> None:
    def silent(peer: Peer) -> None:
        while peer.line():
            pass

    async def use(port: int) -> None:
        async with AsyncKVPool("127.0.0.1", port, size=1, timeout_s=20) as pool:
            call = asyncio.ensure_future(pool.get(b"slow"))
            while not server.seen:
                await asyncio.sleep(0.001)
            call.cancel()
            assert await pool.put(b"k", b"v")
            with pytest.raises(asyncio.CancelledError):
                await call

    with fake_server(in_turn(silent, honest())) as server:
        run(use(server.port))
        assert server.accepted == 2


def test_a_client_that_was_used_in_one_loop_can_be_closed_in_another(run: Run) -> None:
    gone = threading.Event()

    def last(peer: Peer) -> None:
        honest()(peer)
        gone.set()

    async def get() -> bytes | None:
        return await client.get(b"k")

    async def close_it() -> None:
        await client.close()

    first = uvloop.new_event_loop()
    with fake_server(last) as server:
        client = AsyncKVClient("127.0.0.1", server.port)
        assert first.run_until_complete(get()) is None
        run(close_it())
        first.run_until_complete(asyncio.sleep(0))
        assert gone.wait(20)
        assert first.run_until_complete(get()) is None
        first.run_until_complete(close_it())
        first.close()
        assert client.connections_made == 2
        run(close_it())
