"""What clients hold is counted, plain and over TLS: replies that they do not take, and requests that wait."""

import contextlib
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import gevent.ssl
import pytest
import trustme
from gevent import socket as green

from kvss_gevent.core.login import LoginConversation, views
from kvss_gevent.core.service import Service
from kvss_gevent.core.user_file import Role, User
from kvss_gevent.server.accepting.listener import bound
from kvss_gevent.server.connection_loop import SMALL_RECV_BYTES
from kvss_gevent.server.gevent_server import KVServer
from kvss_gevent.server.security.tls import server_context, tls
from kvss_gevent.server.transport import MakeTransport, plain
from kvss_gevent.settings.config import Config
from kvss_gevent.stores.memory import MemoryStore

LARGE = b"x" * 300_000
BOUND_BYTES = 700_000
"""Less than a slice of replies, and more than the part of it that the kernel does not take."""


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> MakeTransport:
    both = tmp_path_factory.mktemp("tls") / "both.pem"
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(both))
    return tls(server_context(Path(both), Path(both)))


@pytest.fixture(params=["plain", "TLS"])
def connecting(request: pytest.FixtureRequest, secure: MakeTransport) -> tuple[MakeTransport, Callable[..., Any]]:
    """Give the transport of a server, and what connects to it and holds little itself."""

    def connect(address: tuple[str, int]) -> Any:
        sock = green.socket()
        sock.setsockopt(green.SOL_SOCKET, green.SO_RCVBUF, 4096)
        sock.settimeout(10)
        sock.connect(address)
        if request.param == "plain":
            return sock
        context = gevent.ssl.SSLContext(gevent.ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = gevent.ssl.CERT_NONE
        return context.wrap_socket(sock)

    return (plain if request.param == "plain" else secure), connect


@contextlib.contextmanager
def running(make_transport: MakeTransport, **settings: Any) -> Iterator[KVServer]:
    listener = green.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    bound(listener)
    server = KVServer(listener, Service(MemoryStore()), Config(write_timeout_s=0, **settings))
    server.make_transport = make_transport
    server.start()
    yield server
    server.drain(0.1)


def until(condition: Callable[[], object], limit_s: float = 20.0) -> bool:
    with gevent.Timeout(limit_s, False):
        while not condition():
            gevent.sleep(0.01)
        return True
    return False


def stored(client: Any) -> None:
    client.sendall(b"KV/1.0 PUT k " + LARGE + b"\n")
    assert client.recv(100) == b"201 CREATED\n"


def test_replies_that_a_client_does_not_take_count_whole(connecting: Any) -> None:
    make_transport, connect = connecting
    with running(make_transport, max_client_memory_bytes=BOUND_BYTES) as server, connect(server.address) as client:
        stored(client)
        client.sendall(b"KV/1.0 GET k\n" * 8)
        assert until(lambda: not server.connections), "it may hold what it likes"


def test_who_takes_its_replies_in_time_is_left_in_peace(connecting: Any) -> None:
    make_transport, connect = connecting
    with running(make_transport, max_client_memory_bytes=8 << 20) as server, connect(server.address) as client:
        stored(client)
        client.sendall(b"KV/1.0 GET k\n" * 8)
        left_bytes = 8 * len(b"200 OK %b\n" % LARGE)
        while left_bytes:
            part = client.recv(1 << 16)
            assert part, "it was cut off"
            left_bytes -= len(part)


def test_requests_that_wait_count_with_what_python_adds_to_each(connecting: Any) -> None:
    make_transport, connect = connecting
    with running(make_transport, max_client_memory_bytes=300_000) as server, connect(server.address) as client:
        stored(client)
        gevent.spawn(send_quietly, client, b"a\n" * 1_000_000)
        assert until(lambda: not server.connections), "short lines count as their bytes alone"


def send_quietly(client: Any, data: bytes) -> None:
    with contextlib.suppress(OSError):
        client.sendall(data)


def unanswering() -> LoginConversation:
    service = Service(MemoryStore())
    return LoginConversation(service, views(service), lambda *_: None)


def test_before_a_login_lines_that_wait_take_no_more_than_their_bytes() -> None:
    one = unanswering()
    packet = b"a\n" * 32_768
    tracemalloc.start()
    try:
        assert one.receive(packet) == b"426 UPGRADE_REQUIRED\n"
        assert one.more
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held_bytes < 2 * len(packet)
    replies = 1
    while one.more:
        replies += one.proceed() == b"426 UPGRADE_REQUIRED\n"
    assert replies == 32_768


def test_before_a_login_little_is_received_at_a_time() -> None:
    received: list[tuple[bool, int]] = []

    class Recorded(LoginConversation):
        def receive(self, data: bytes) -> bytes:
            received.append((self.is_admitted, len(data)))
            return super().receive(data)

    user = User("alice", Role.WRITE, "")
    listener = green.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    service = Service(MemoryStore(), login=lambda made, _: Recorded(made, views(made), lambda *_: user))
    server = KVServer(listener, service, Config())
    server.start()
    with green.create_connection(server.address, 10) as client:
        client.sendall(b"KV/1.0 GET a\n" * 2000)
        left_bytes = 2000 * len(b"401 UNAUTHORIZED\n")
        while left_bytes:
            left_bytes -= len(client.recv(1 << 16))
        client.sendall(b"KV/1.0 AUTH alice x\n")
        assert client.recv(100) == b"200 OK authenticated\n"
        client.sendall(b"KV/1.0 PUT a " + b"x" * 500_000 + b"\n")
        assert client.recv(100) == b"201 CREATED\n"
    assert max(size for is_admitted, size in received if not is_admitted) <= SMALL_RECV_BYTES
    assert max(size for is_admitted, size in received if is_admitted) > SMALL_RECV_BYTES
    assert server.drain(20)
