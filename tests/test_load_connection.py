"""loadtest/connection.py against real sockets: replies in any pieces, big pipelines, and every way to lose a server."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import gevent
import pytest
from greenlet import getcurrent
from serving import deaf_port

from kvss_gevent.loadtest.engine.clock import Timer, clock
from kvss_gevent.loadtest.engine.load_connection import ConnectionLost, LoadConnection, address_of


@contextmanager
def peer(script: Callable[[socket.socket], None]) -> Iterator[tuple[str, int]]:
    """Serve one connection with a script in a thread."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(5)

    def serve() -> None:
        sock, _ = listener.accept()
        sock.settimeout(5)
        with sock:
            script(sock)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()
    finally:
        thread.join(6)
        listener.close()
        assert not thread.is_alive()


def test_replies_come_in_any_pieces() -> None:
    def script(sock: socket.socket) -> None:
        assert sock.recv(100) == b"A\nB\nC\n"
        for piece in (b"2", b"00 OK one\n20", b"0 OK two\n", b"404 NOT_FOUND\n"):
            sock.sendall(piece)
            threading.Event().wait(0.01)
        sock.recv(100)

    with peer(script) as address:
        connection = LoadConnection(address)
        connection.hold()
        connection.send(b"A\nB\nC\n", 3)
        assert [connection.reply() for _ in range(3)] == [b"200 OK one", b"200 OK two", b"404 NOT_FOUND"]
        connection.release()
        assert connection.waiting == 0
        connection.close(quit_first=True)


def test_the_greenlet_may_wait_for_other_things_between_requests() -> None:
    def script(sock: socket.socket) -> None:
        for _ in range(2):
            sock.sendall(sock.recv(100))

    with peer(script) as address:
        connection = LoadConnection(address)
        assert connection.exchange(b"one\n") == b"one"
        gevent.sleep(0.01)
        assert connection.exchange(b"two\n") == b"two"
        connection.close()
        connection.close()


def test_an_exchange_tells_when_it_began_and_ended() -> None:
    def script(sock: socket.socket) -> None:
        for _ in range(2):
            data = sock.recv(100)
            threading.Event().wait(0.02)
            sock.sendall(data)

    with peer(script) as address:
        connection = LoadConnection(address)
        for hold in (connection.hold, connection.release):
            hold()
            begun = clock()
            connection.exchange(b"one\n")
            assert begun <= connection.sent_at <= connection.done_at - 0.015 <= clock() - 0.015
        connection.close()


def test_the_time_of_a_reply_is_when_it_came_and_not_when_it_is_looked_at() -> None:
    def script(sock: socket.socket) -> None:
        sock.recv(100)
        sock.sendall(b"one\ntwo\nunasked\n")
        sock.recv(100)

    with peer(script) as address:
        connection = LoadConnection(address)
        connection.send(b"A\nB\n", 2)
        assert connection.reply() == b"one"
        came = connection.done_at
        assert came > connection.sent_at
        gevent.sleep(0.005)
        assert connection.reply() == b"two"
        assert connection.done_at == came
        connection.send(b"C\n", 1)
        assert connection.reply() == b"unasked"
        assert connection.done_at == connection.sent_at
        connection.close()


def test_a_reply_in_pieces_and_one_that_was_not_asked_for_are_read_in_order() -> None:
    def script(sock: socket.socket) -> None:
        for pieces in ((b"o", b"ne\n"), (b"two\nunasked\n",), (b"late\n",)):
            sock.recv(100)
            for piece in pieces:
                sock.sendall(piece)
                threading.Event().wait(0.01)

    with peer(script) as address:
        connection = LoadConnection(address)
        connection.hold()
        assert [connection.exchange(b"x\n") for _ in range(3)] == [b"one", b"two", b"unasked"]
        assert connection.waiting == 0
        connection.release()
        connection.close()


def test_large_replies_are_read_in_few_pieces_once_one_was_large() -> None:
    size = 200_000

    def script(sock: socket.socket) -> None:
        for _ in range(20):
            sock.recv(100)
            sock.sendall(b"y" * size + b"\n")

    with peer(script) as address:
        connection = LoadConnection(address)
        connection.hold()
        assert {len(connection.exchange(b"x\n")) for _ in range(20)} == {size}
        connection.release()
        connection.close()


def test_while_attended_the_greenlet_may_wait_for_other_things() -> None:
    """The server ends the connection while nothing is owed: that must not wake a greenlet that sleeps."""

    def script(sock: socket.socket) -> None:
        sock.sendall(sock.recv(100))

    with peer(script) as address:
        connection = LoadConnection(address)
        connection.attend()
        assert connection.exchange(b"one\n") == b"one"
        begun = clock()
        switch = getcurrent().switch
        timer = Timer(switch)
        timer.arm(begun + 0.05)
        gevent.get_hub().switch()
        assert clock() >= begun + 0.05
        with pytest.raises(ConnectionLost, match=r"closed by the server|connection lost"):
            [connection.exchange(b"two\n") for _ in range(2)]
        connection.release()
        connection.close()
        timer.close()


def test_a_pipeline_larger_than_every_buffer_does_not_lock_up() -> None:
    size = 8 << 20

    def script(sock: socket.socket) -> None:
        received = 0
        while received < size:
            data = sock.recv(1 << 16)
            received += len(data)
            sock.sendall(data)

    lines = (b"x" * 1023 + b"\n") * (size // 1024)
    with peer(script) as address:
        connection = LoadConnection(address)
        connection.hold()
        connection.send(lines, size // 1024)
        assert {connection.reply() for _ in range(size // 1024)} == {b"x" * 1023}
        connection.release()
        connection.close()


@pytest.mark.parametrize("reset", [False, True])
def test_a_server_that_goes_away_is_lost(reset: bool) -> None:
    def script(sock: socket.socket) -> None:
        if not reset:
            sock.recv(100)

    with peer(script) as address:
        connection = LoadConnection(address)
        with pytest.raises(ConnectionLost, match=r"closed by the server|connection lost"):
            [connection.exchange(b"KV/1.0 GET a\n") for _ in range(3)]
        connection.close(quit_first=True)


def test_a_wait_can_be_ended_from_outside() -> None:
    with peer(lambda sock: sock.recv(100) and sock.recv(100)) as address:  # type: ignore[func-returns-value, arg-type]
        connection = LoadConnection(address)
        gevent.spawn_later(0.05, connection.expire)
        with pytest.raises(ConnectionLost, match="no reply in time"):
            connection.exchange(b"KV/1.0 GET a\n")
        assert connection.waiting == 1
        connection.close()


def test_nothing_listening_is_lost_with_a_reason() -> None:
    with deaf_port() as port, pytest.raises(ConnectionLost, match="cannot connect: Connection refused"):
        LoadConnection(("127.0.0.1", port))


def test_a_reply_without_an_end_is_refused() -> None:
    def script(sock: socket.socket) -> None:
        sock.recv(100)
        with suppress(OSError):
            sock.sendall(b"x" * (3 << 20))

    with peer(script) as address:
        connection = LoadConnection(address)
        with pytest.raises(ConnectionLost, match="a reply without an end"):
            connection.exchange(b"KV/1.0 GET a\n")
        connection.close()


def test_quit_says_goodbye() -> None:
    heard: list[bytes] = []

    def script(sock: socket.socket) -> None:
        heard.append(sock.recv(100))
        sock.sendall(b"200 OK bye\n")

    with peer(script) as address:
        LoadConnection(address).close(quit_first=True)
    assert heard == [b"KV/1.0 QUIT\n"]


@pytest.mark.parametrize(
    "text", ["127.0.0.1:5050", "tcp://127.0.0.1:5050", "kv://127.0.0.1:5050/", "kvss://127.0.0.1", "127.0.0.1"]
)
def test_hosts_are_read(text: str) -> None:
    assert address_of(text) == ("127.0.0.1", 5050)


def test_an_ipv6_host_is_read() -> None:
    assert address_of("[::1]:80") == ("::1", 80)


@pytest.mark.parametrize("text", ["a:b", "a:0", "a:65536", "http://a", "kvss://ann@a:1", "unix:/a", "a b"])
def test_other_hosts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"PORT|URL|without a user|HOST"):
        address_of(text)
