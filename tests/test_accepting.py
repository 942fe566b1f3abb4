"""How clients are accepted: those who left cost little, refusals share a turn, and a peer's name is not trusted."""

import fcntl
import logging
import os
import select
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import socket as green

from kvss_gevent.core.conversation import Conversation
from kvss_gevent.core.service import Service
from kvss_gevent.core.session import Session
from kvss_gevent.server.accepting import listen_queue
from kvss_gevent.server.accepting import listener as listener_module
from kvss_gevent.server.accepting.listener import listening
from kvss_gevent.server.gevent_server import KVServer
from kvss_gevent.settings.config import Config
from kvss_gevent.settings.fail import Fail
from kvss_gevent.stores.memory import MemoryStore

CROWD = 60
STORM = listen_queue.SHORT_BACKLOG + 2 * listen_queue.LEFT_EVERY


def listener(backlog: int = CROWD) -> Any:
    one = green.socket()
    one.bind(("127.0.0.1", 0))
    one.listen(backlog)
    return one


def backlog_of(one: Any) -> int:
    """Return how many clients may wait in the queue of a listening socket: tcpi_sacked."""
    return int(struct.unpack("28xI", one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32))[0])


def wait_for(condition: Callable[[], bool]) -> None:
    with gevent.Timeout(30):
        while not condition():
            gevent.sleep(0.001)


def readable(sockets: list[socket.socket]) -> int:
    return len(select.select(sockets, [], [], 0)[0])


def test_clients_that_have_left_before_they_are_accepted_get_no_conversation() -> None:
    made: list[Conversation] = []

    def converse(service: Service) -> Conversation:
        made.append(Session(service))
        return made[-1]

    server = KVServer(listener(), Service(MemoryStore(), converse=converse), Config())
    for _ in range(CROWD):
        socket.create_connection(server.socket.getsockname()).close()
    with socket.create_connection(server.socket.getsockname()) as honest:
        server.start()
        honest.sendall(b"KV/1.0 GET a\n")
        with gevent.Timeout(30):
            while not readable([honest]):
                gevent.sleep(0.001)
        assert honest.recv(100) == b"404 NOT_FOUND\n"
        assert len(made) == 1
        assert server.service.stats.connections == 1
    assert server.drain(20)


def test_many_refusals_share_a_turn_of_the_loop() -> None:
    server = KVServer(listener(), Service(MemoryStore()), Config(max_connections=1))
    crowd = [socket.create_connection(server.socket.getsockname()) for _ in range(CROWD)]
    server.start()
    turns = 0
    with gevent.Timeout(30):
        while readable(crowd[1:]) < CROWD - 1:
            gevent.sleep(1e-6)  # one turn of the event loop
            turns += 1
    assert turns < CROWD // 3
    assert {sock.recv(100) for sock in crowd[1:]} == {b"500 SERVER_ERROR\n"}
    for sock in crowd:
        sock.close()
    assert server.drain(20)


def test_the_queue_is_short_while_many_clients_leave_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen_queue, "STORM_S", 0.05)
    server = KVServer(listener(STORM + 1), Service(MemoryStore()), Config())
    for _ in range(STORM):
        socket.create_connection(server.socket.getsockname()).close()
    server.start()
    wait_for(lambda: backlog_of(server.socket) == listen_queue.SHORT_BACKLOG)
    wait_for(lambda: backlog_of(server.socket) > STORM + 1)  # as long as that of `kvss serve`
    assert server.drain(20)


def test_the_queue_stays_long_for_clients_that_wait_for_their_replies() -> None:
    server = KVServer(listener(STORM + 1), Service(MemoryStore()), Config())
    crowd = [socket.create_connection(server.socket.getsockname()) for _ in range(STORM)]
    server.start()
    wait_for(lambda: len(server.connections) == STORM)
    assert backlog_of(server.socket) == STORM + 1
    for sock in crowd:
        sock.close()
    assert server.drain(20)


@pytest.mark.parametrize("name", [b"\0", b"\0a\nb", b"x"])
def test_the_name_that_a_client_of_a_unix_socket_gives_itself_is_not_used(
    name: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO, "kvss")
    with listening(Config(unix=str(tmp_path / "s"))) as opened:
        server = KVServer(opened, Service(MemoryStore()), Config())
        server.start()
        with green.socket(socket.AF_UNIX) as client:
            client.settimeout(30)
            client.bind(name + b"1" if name == b"\0" else name)
            client.connect(str(tmp_path / "s"))
            client.sendall(b"KV/1.0 GET a\n")
            assert client.recv(100) == b"404 NOT_FOUND\n"
        assert server.drain(20)
    assert [record.getMessage() for record in caplog.records][:1] == ["a client of the Unix socket connected"]


def test_a_socket_that_another_server_has_put_in_its_place_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with listening(Config(unix=str(path))):
        path.unlink()
        with listening(Config(unix=str(path))):
            ours = path.stat().st_ino
            gone = tmp_path / "old"
            path.rename(gone)  # so that its inode is not used again
            other = socket.socket(socket.AF_UNIX)
            other.bind(str(path))
        assert path.stat().st_ino != ours
        other.close()
    assert path.exists()


def test_a_server_waits_for_another_that_is_about_to_listen(tmp_path: Path) -> None:
    path = tmp_path / "s"
    other = socket.socket(socket.AF_UNIX)
    turn = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(turn, fcntl.LOCK_EX)
    other.bind(str(path))  # it does not listen yet, and looks as a stale one does

    def listen() -> None:
        other.listen()
        os.close(turn)

    timer = threading.Timer(0.2, listen)
    timer.start()
    with pytest.raises(Fail, match="cannot listen"), listening(Config(unix=str(path))):
        pass
    timer.join()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    other.close()


@pytest.mark.parametrize("address", ["0.0.0.0", "::"])
def test_a_socket_of_the_service_manager_needs_the_same_protection(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET

    def environ() -> dict[str, str]:
        descriptor = socket.create_server((address, 0), family=family).detach()
        monkeypatch.setattr(listener_module, "FIRST_INHERITED", descriptor)
        return {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}

    for config in (Config(), Config(unix="unused"), Config(users="file")):
        with pytest.raises(Fail, match="can be reached from other machines"), listening(config, environ()):
            pass
    with listening(Config(open=True), environ()) as one:
        assert one.getsockname()[0] == address


def test_a_socket_of_datagrams_in_order_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    one = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    one.bind(str(tmp_path / "socket"))
    one.listen()
    monkeypatch.setattr(listener_module, "FIRST_INHERITED", one.detach())
    environ = {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
    with pytest.raises(Fail, match="not a listening socket of a stream"), listening(Config(), environ):
        pass


def test_a_path_steers_no_terminal(tmp_path: Path) -> None:
    with listening(Config(unix=str(tmp_path / "a\x1b[2J"))) as one:
        assert listener_module.shown_address(one) == f"unix:{tmp_path}/a\\x1b[2J"
