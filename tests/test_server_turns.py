"""Replies of one turn of the event loop are sent together: they arrive whole, in order, and not late."""

import contextlib
import select
import socket
import time
from collections.abc import Iterator

import pytest
from serving import Served, read_lines, serving

pytestmark = pytest.mark.server

CLIENTS = 300
"""More than the replies that the server keeps until the end of a turn."""
VALUE_BYTES = 12_000
"""With its key, a reply is below the largest that is kept until the end of a turn."""


@contextlib.contextmanager
def clients(server: Served, number: int) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(server.connect()) for _ in range(number)]


@contextlib.contextmanager
def one_turn(server: Served) -> Iterator[None]:
    """Make the server stand still; it then takes what clients send in this block in one turn."""
    with server.connect() as culprit:
        read_hello(culprit)
        culprit.sendall(b"KV/1.0 BURN 300\n")
        time.sleep(0.05)
        yield
        read_lines(culprit, 1)


def read_hello(sock: socket.socket) -> None:
    sock.sendall(b"KV/1.0 GET hello\n")
    read_lines(sock, 1)


def test_every_client_of_one_turn_gets_its_own_reply() -> None:
    with serving("--lab", "--max-connections", "400") as server, clients(server, CLIENTS) as crowd:
        for number, sock in enumerate(crowd):
            sock.sendall(b"KV/1.0 PUT key%d %d\n" % (number, number))
            read_lines(sock, 1)
        with one_turn(server):
            for number, sock in enumerate(crowd):
                sock.sendall(b"KV/1.0 GET key%d\n" % number)
        for number, sock in enumerate(crowd):
            assert read_lines(sock, 1) == [b"200 OK %d" % number]


def test_replies_that_the_kernel_does_not_take_at_once_arrive_whole_and_in_order() -> None:
    with serving() as server, clients(server, 3) as crowd:
        for letter in b"abc":
            server.ask(b"KV/1.0 PUT %c %b\n" % (letter, bytes([letter]) * VALUE_BYTES))
        # Each request is a packet of its own turn, until the kernel takes no more of any client's replies.
        requests = [b"KV/1.0 GET %c\n" % letter for letter in b"abc"] * 50
        for sock in crowd:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 128 << 10)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for request in requests:
            for sock in crowd:
                sock.sendall(request)
            server.ask(b"KV/1.0 GET hello\n")
        for sock in crowd:
            replies = read_lines(sock, len(requests))
            assert replies == [b"200 OK " + request[11:12] * VALUE_BYTES for request in requests]
            sock.sendall(b"KV/1.0 GET a\n")
            assert read_lines(sock, 1) == [b"200 OK " + b"a" * VALUE_BYTES]


def test_who_was_answered_before_a_long_command_does_not_wait_for_it() -> None:
    with serving("--lab") as server, clients(server, 20) as crowd, server.connect() as burning:
        for sock in (*crowd, burning):
            read_hello(sock)
        with one_turn(server):
            for sock in crowd[:10]:
                sock.sendall(b"KV/1.0 GET a\n")
            burning.sendall(b"KV/1.0 BURN 1000\n")
            for sock in crowd[10:]:
                sock.sendall(b"KV/1.0 GET a\n")
        # The event loop takes the clients of a turn in an order of its own. Those before the long command are answered.
        answered, _, _ = select.select(crowd, [], [], 0.5)
        assert 0 < len(answered) < len(crowd)
        assert read_lines(burning, 1) == [b"200 OK"]


def test_a_client_that_sends_and_closes_its_side_is_answered() -> None:
    with serving() as server, server.connect() as sock:
        sock.sendall(b"KV/1.0 GET a\n")
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(100) == b"404 NOT_FOUND\n"
        assert sock.recv(100) == b""


def test_replies_arrive_on_the_event_loop_that_gevent_has_elsewhere() -> None:
    with serving(env={"GEVENT_LOOP": "libuv"}) as server, server.connect() as sock:
        for number in range(3):
            sock.sendall(b"KV/1.0 PUT a %d\nKV/1.0 GET a\n" % number)
            assert read_lines(sock, 2) == [b"201 CREATED" if number == 0 else b"200 OK", b"200 OK %d" % number]
