"""Connections that are quiet give up their greenlet, and nobody notices; how many there may be."""

import contextlib
import socket
import time
from collections.abc import Callable, Iterator

import gevent
import pytest
from gevent import socket as green
from serving import serving

from kvss_gevent.core.service import Service
from kvss_gevent.server.accepting import descriptors
from kvss_gevent.server.gevent_server import KVServer
from kvss_gevent.settings.config import Config
from kvss_gevent.settings.kinds import MAX_COUNT
from kvss_gevent.stores.base import Store
from kvss_gevent.stores.memory import MemoryStore
from kvss_gevent.trace.scenes.stalling_store import StallingStore

ASK, NONE = b"KV/1.0 GET none\n", b"404 NOT_FOUND\n"


@contextlib.contextmanager
def running(store: Store | None = None, **settings: float) -> Iterator[tuple[KVServer, Callable[[], green.socket]]]:
    """Run a server in this thread whose clients hibernate after 0.2 s; gives it, and what connects to it."""
    listener = green.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    server = KVServer(listener, Service(store or MemoryStore()), Config(**{"hibernate_s": 0.2, **settings}))  # type: ignore[arg-type]
    server.start()
    with contextlib.ExitStack() as stack:
        yield server, lambda: stack.enter_context(green.create_connection(server.address, 20))
    assert server.drain(20)


def connected(server: KVServer) -> green.socket:
    return green.create_connection(server.address, 20)


def ask(client: green.socket, line: bytes = ASK) -> bytes:
    client.sendall(line)
    reply: bytes = client.recv(1 << 16)
    return reply


def until(condition, limit_s: float = 20.0) -> None:  # type: ignore[no-untyped-def]
    deadline_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline_s, "waited in vain"
        gevent.sleep(0.01)


def sleepers(server: KVServer) -> int:
    return sum(connection.wake is None for connection in server.connections)


def test_a_quiet_connection_hibernates_and_answers_again_and_again() -> None:
    with running() as (server, connect):
        clients = [connect() for _ in range(3)]
        for _ in range(3):
            assert [ask(client) for client in clients] == [NONE] * 3
            assert sleepers(server) == 0
            until(lambda: sleepers(server) == 3)
            assert server.service.stats.connections == 3
        clients[1].close()
        clients[2].close()
        until(lambda: len(server.connections) == 1)
        assert server.service.stats.connections == 1


def test_a_large_pipeline_that_wakes_a_connection_is_answered_whole() -> None:
    with running() as (server, connect):
        client = connect()
        until(lambda: sleepers(server) == 1)
        gevent.spawn(client.sendall, ASK * 20_000)
        left = len(NONE) * 20_000
        while left:
            left -= len(client.recv(1 << 16))
        assert ask(client) == NONE
        until(lambda: sleepers(server) == 1)


def test_a_half_line_is_kept_and_its_connection_awake() -> None:
    with running() as (server, connect):
        client = connect()
        client.sendall(ASK[:8])
        gevent.sleep(0.4)
        assert sleepers(server) == 0
        assert ask(client, ASK[8:]) == NONE
        until(lambda: sleepers(server) == 1)


def test_a_connection_that_waits_for_its_store_does_not_hibernate() -> None:
    with running(StallingStore(MemoryStore(), gevent.sleep)) as (server, connect):
        client = connect()
        client.sendall(b"KV/1.0 GET stall:1000:a\n")
        gevent.sleep(0.4)
        assert sleepers(server) == 0
        assert client.recv(100) == NONE
        until(lambda: sleepers(server) == 1)
        assert ask(client) == NONE


def test_a_client_that_does_not_take_its_replies_does_not_hibernate() -> None:
    with running() as (server, connect):
        client = connect()
        assert ask(client, b"KV/1.0 PUT big " + b"x" * 500_000 + b"\n") == b"201 CREATED\n"
        client.sendall(b"KV/1.0 GET big\n" * 40)
        gevent.sleep(0.4)
        assert sleepers(server) == 0
        left = 40 * (len(b"200 OK \n") + 500_000)
        while left:
            left -= len(client.recv(1 << 20))
        until(lambda: sleepers(server) == 1)


def test_a_connection_that_hibernates_can_be_too_idle() -> None:
    with running(hibernate_s=0.05, idle_timeout_s=1.0) as (server, connect):
        client = connect()
        until(lambda: sleepers(server) == 1)
        assert client.recv(100) == b""
        until(lambda: not server.connections)


def test_with_0_nothing_hibernates() -> None:
    with running(hibernate_s=0.0, idle_timeout_s=5.0) as (server, connect):
        client = connect()
        assert ask(client) == NONE
        gevent.sleep(0.3)
        assert sleepers(server) == 0


def test_a_connection_that_is_no_longer_quiet_keeps_its_greenlet() -> None:
    with running(hibernate_s=0.0) as (server, connect):
        client = connect()
        assert ask(client) == NONE
        (connection,) = server.connections
        server.connection_loop.hibernate(connection)  # it was found quiet, and has asked before its greenlet was to end
        gevent.sleep(0.01)
        assert sleepers(server) == 0
        connection.session.quiet = True
        client.sendall(ASK)  # it lies in the socket and is not read yet
        server.connection_loop.hibernate(connection)
        assert client.recv(100) == NONE
        assert sleepers(server) == 0
        connection.session.quiet = True
        server.connection_loop.hibernate(connection)
        until(lambda: sleepers(server) == 1)
        server.connection_loop.hibernate(connection)  # it has no greenlet that could end
        gevent.sleep(0.01)
        assert not connection.rests
        assert ask(client) == NONE


def test_a_connection_that_has_replies_to_send_keeps_its_greenlet() -> None:
    with running(hibernate_s=0.0) as (server, connect):
        client = connect()
        assert ask(client, b"KV/1.0 PUT big " + b"x" * 500_000 + b"\n") == b"201 CREATED\n"
        (connection,) = server.connections
        client.sendall(b"KV/1.0 GET big\n" * 40)
        until(lambda: connection.sending)
        connection.session.quiet = True
        server.connection_loop.hibernate(connection)
        left = 40 * (len(b"200 OK \n") + 500_000)
        while left:
            taken = client.recv(1 << 20)
            assert taken, f"closed with {left} bytes unsent"
            left -= len(taken)
        assert ask(client) == NONE
        assert sleepers(server) == 0


@pytest.mark.parametrize(
    ("wanted", "limit", "fitting"), [(0, 20_000, 19_900), (0, None, MAX_COUNT), (500, 20_000, 500), (500, 300, 200)]
)
def test_the_most_connections_follow_the_limit_of_open_files_unless_they_are_given(
    wanted: int, limit: int | None, fitting: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int | None] = []
    monkeypatch.setattr(descriptors, "open_now", lambda: 68)
    monkeypatch.setattr(descriptors, "raise_limit", lambda number=None: asked.append(number) or limit)
    assert descriptors.fit(Config(max_connections=wanted)).max_connections == fitting
    assert asked == [wanted + 100 if wanted else None]


@pytest.mark.server
@pytest.mark.full
def test_a_server_with_clients_that_hibernate_stops_in_good_order() -> None:
    with serving("--hibernate", "0.1", "-v") as server, contextlib.ExitStack() as stack:
        socks: list[socket.socket] = [stack.enter_context(server.connect()) for _ in range(50)]
        for sock in socks:
            sock.sendall(ASK)
            assert sock.recv(100) == NONE
        time.sleep(1)
        code, log = server.stop()
        assert code == 0
        assert log.count("gone: the server stops") == 50
