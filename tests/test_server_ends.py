"""How connections end, from outside: who is idle and who only reads slowly, what a reset takes, what a close leaves."""

import contextlib
import os
import socket
import ssl
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import cast

import gevent
import pytest
import trustme
from gevent import socket as green
from serving import read_all, serving, wait_until

from kvss_gevent.core.login import LoginConversation, views
from kvss_gevent.core.service import Service
from kvss_gevent.server import timeouts
from kvss_gevent.server.client_memory import ClientMemory
from kvss_gevent.server.connection import Connection, close
from kvss_gevent.server.gevent_server import KVServer
from kvss_gevent.server.security.tls import tls
from kvss_gevent.server.transport import plain
from kvss_gevent.settings.config import Config
from kvss_gevent.stores.memory import MemoryStore

pytestmark = pytest.mark.server

BIG = b"x" * 200_000


def slow_reader(port: int) -> socket.socket:
    """Return a connection that holds little, so that replies soon wait in the server."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(10)
    sock.connect(("127.0.0.1", port))
    return sock


def server_in_this_thread(config: Config) -> KVServer:
    listener = green.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(100)
    server = KVServer(listener, Service(MemoryStore()), config)
    server.start()
    return server


def test_a_slow_reader_is_not_idle_as_long_as_replies_wait_for_it() -> None:
    with serving("--idle-timeout", "0.4") as server:
        assert server.ask(b"KV/1.0 PUT big " + BIG + b"\n") == b"201 CREATED\n"
        with slow_reader(server.port) as slow, server.connect() as idle:
            slow.sendall(b"KV/1.0 GET big\n" * 12)
            began_s = time.monotonic()
            assert idle.recv(1) == b""
            left_bytes = 12 * (len(BIG) + 8)
            while left_bytes:
                if time.monotonic() - began_s < 1.5:  # some bytes now and then, for much longer than the timeout
                    time.sleep(0.1)
                    left_bytes -= len(slow.recv(1000))
                else:
                    part = slow.recv(1 << 20)
                    assert part, f"ended with {left_bytes} bytes of replies unsent"
                    left_bytes -= len(part)
            assert slow.recv(1) == b"", "idle from its last reply on"


def test_what_a_client_has_not_taken_by_the_end_of_a_drain_is_thrown_away() -> None:
    with serving("--drain-timeout", "0.3") as server:
        assert server.ask(b"KV/1.0 PUT big " + BIG + b"\n") == b"201 CREATED\n"
        with slow_reader(server.port) as deaf:
            deaf.sendall(b"KV/1.0 GET big\n" * 20)
            wait_until(lambda: server.ask(b"KV/1.0 STATS\n").startswith(b"200 OK uptime"))
            assert server.stop()[0] == 0
            with pytest.raises(ConnectionResetError):  # else the kernel would go on sending for a dead process
                read_all(deaf)


def test_the_last_replies_arrive_though_the_server_leaves_input_unread() -> None:
    fits = b"x" * 100_000  # into what the kernel takes at once
    with serving() as server:
        assert server.ask(b"KV/1.0 PUT big " + fits + b"\n") == b"201 CREATED\n"
        with slow_reader(server.port) as sock:
            # The replies wait in the server's kernel: a reset for what it has not read would throw them away.
            sock.sendall(b"KV/1.0 GET big\nKV/1.0 QUIT\n" + b"KV/1.0 GET a\n" * 4000)
            wait_until(lambda: b"connections: 1;" in server.ask(b"KV/1.0 STATS\n"))
            assert read_all(sock) == b"200 OK " + fits + b"\n200 OK bye\n"


@pytest.mark.parametrize("secured", [False, True], ids=["no login", "no handshake"])
def test_who_is_not_admitted_within_10_s_is_ended(secured: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert timeouts.ADMISSION_S == 10, "rule 14"
    monkeypatch.setattr(timeouts, "ADMISSION_S", 0.2)
    listener = green.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    login = None if secured else lambda made, _: LoginConversation(made, views(made), lambda *pair: None)
    service = Service(MemoryStore(), login=login)
    server = KVServer(listener, service, Config(line_timeout_s=0.2))  # it looks at its clients four times as often
    if secured:
        server.make_transport = tls(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    server.start()
    with green.create_connection(server.address, 20) as silent, contextlib.suppress(ConnectionResetError):
        assert silent.recv(1) == b""
    assert server.drain(20)


@pytest.mark.timing
def test_a_half_sent_tls_record_is_ended_as_a_half_sent_line_is(tmp_path: Path) -> None:
    authority = trustme.CA()
    pem = tmp_path / "server.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(pem))
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    with (
        serving("--line-timeout", "0.5", "--tls-cert", str(pem), "--tls-key", str(pem)) as server,
        trust.wrap_socket(server.connect(), server_hostname="localhost") as quiet,
        trust.wrap_socket(server.connect(), server_hostname="localhost") as sock,
        socket.socket(fileno=os.dup(sock.fileno())) as below,
    ):
        below.settimeout(10)
        below.sendall(b"\x17\x03\x03\x00\x20" + bytes(10))
        while below.recv(4096):  # after the tickets of the handshake comes the end
            pass
        quiet.sendall(b"KV/1.0 GET a\n")
        assert quiet.recv(100) == b"404 NOT_FOUND\n"


def test_clients_that_are_ended_together_leave_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeouts, "LEAVE_SLICE", 5)
    server = server_in_this_thread(Config(idle_timeout_s=0.4))
    with contextlib.ExitStack() as clients:
        for _ in range(60):
            clients.enter_context(green.create_connection(server.address, 20))
        there = [0]
        while there[-1] or not any(there):
            gevent.sleep(1e-6)  # one turn of the event loop
            there.append(len(server.connections))
    assert max(before - after for before, after in pairwise(there)) <= 20
    assert server.drain(20)


def test_a_client_that_leaves_while_others_are_looked_at_is_not_counted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeouts, "LEAVE_SLICE", 1)
    memory = ClientMemory(lambda: 1 << 20)
    sock = socket.socket()  # none of them is read or sent to
    connections = {in_a_line(sock) for _ in range(5)}

    def leave() -> None:
        while not any(connection.ended for connection in connections):
            gevent.sleep(1e-6)
        for connection in connections:
            memory.forget(connection)
        connections.clear()

    sweeper = gevent.spawn(
        timeouts.sweep, connections, lambda: Config(line_timeout_s=0.2), memory, lambda _: True, lambda _: None
    )
    gevent.spawn(leave).join(5)
    gevent.sleep(0.1)
    sweeper.kill()
    sock.close()
    assert not connections
    assert memory.total_bytes == 0


def test_memory_is_given_back_once_after_clients_held_much() -> None:
    trims: list[int] = []
    memory = ClientMemory(lambda: 8 << 20, lambda: trims.append(memory.total_bytes))
    sock = socket.socket()
    one, other = in_a_line(sock), in_a_line(sock)
    memory.note(one, 2 << 20)
    memory.note(other, 1 << 20)
    memory.give_back()
    assert not trims  # they still hold it
    memory.note(one, 0)
    memory.give_back()
    memory.give_back()
    assert trims == [1 << 20]
    sock.close()


ODD_CONVERSATIONS = r"""
import contextlib, gc, socket, sys
import gevent
from gevent import socket as green
from kvss_gevent.core.service import Service
from kvss_gevent.server.gevent_server import KVServer
from kvss_gevent.settings.config import Config
from kvss_gevent.stores.memory import MemoryStore

listener = green.socket()
listener.bind(("127.0.0.1", 0))
listener.listen(100)
server = KVServer(listener, Service(MemoryStore()), Config())
server.start()
odd = [
    b"KV/1.0 PUT k " + b"x" * 100_000,
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    bytes(range(1, 200)) + b"\n",
    b"KV/1.0 PUT k v\nKV/1.0 GET k\n" * 50,
    b"KV/1.0 STATS\nKV/1.0 DEL k\nKV/1.0 QUIT\n",
]
for turn in range(12):
    for number in range(100):
        with green.create_connection(server.address, 20) as client:
            client.sendall(odd[number % len(odd)])
            with contextlib.suppress(OSError):  # the server may have ended it already
                client.shutdown(socket.SHUT_WR)
                while client.recv(1 << 16):
                    pass
    while server.connections:
        gevent.sleep(0.001)
    gc.collect()
    print(sys.getallocatedblocks())
assert server.drain(20)
"""


def test_nothing_is_kept_of_odd_conversations() -> None:
    # A process of its own, in which nobody else allocates: not another test's thread, and no measuring of coverage.
    alone = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    ran = subprocess.run(
        [sys.executable, "-c", ODD_CONVERSATIONS], check=False, env=alone, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    blocks = [int(number) for number in ran.stdout.split()]
    assert len(blocks) == 12
    # What is made once does not come every time. Fewer than one for two conversations:
    assert min(after - before for before, after in pairwise(blocks)) < 50


def in_a_line(sock: socket.socket) -> Connection:
    """Return a client that has begun a line."""
    session = Service(MemoryStore()).open()
    session.receive(b"KV/1.0 PUT a")
    return Connection(sock, plain(sock), session, ("127.0.0.1", 1))


def test_a_client_that_never_stops_sending_does_not_keep_the_loop_at_its_end() -> None:
    class Endless:
        """A socket in which there is always more to read; close would hang if it read all."""

        closed = False

        def shutdown(self, _: int) -> None:
            pass

        def recv(self, size: int) -> bytes:
            assert not self.closed
            return b"x" * min(size, 1)

        def close(self) -> None:
            self.closed = True

    sock = Endless()
    close(cast("socket.socket", sock))
    assert sock.closed
