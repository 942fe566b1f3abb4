"""The client against servers that lie, stall and drip: no wrong reply is taken, and every wait has its end."""

import socket
import threading
import time
from collections.abc import Callable
from itertools import pairwise

import pytest
from client_peers import RIGHT, Later, client, sending
from fake_server import Peer, answering, fake_server, honest, in_turn
from hypothesis import given
from hypothesis import strategies as st

from kvss_gevent import KVClient, KVProtocolError, KVTimeout


@pytest.mark.parametrize(
    ("call", "reply"),
    [
        (lambda kv: kv.get(b"k"), b"<html>"),
        (lambda kv: kv.get(b"k"), b""),
        (lambda kv: kv.get(b"k"), b"\xff\x00\x1b[2J"),
        (lambda kv: kv.get(b"k"), b"200 OK"),
        (lambda kv: kv.get(b"k"), b"200 ok v"),
        (lambda kv: kv.get(b"k"), b"201 CREATED"),
        (lambda kv: kv.get(b"k"), b"404 NOT_FOUND k"),
        (lambda kv: kv.get(b"k"), b"HTTP/1.1 400 Bad Request"),
        (lambda kv: kv.put(b"k", b"v"), b"200 OK v"),
        (lambda kv: kv.put(b"k", b"v"), b"404 NOT_FOUND"),
        (lambda kv: kv.put(b"k", b"v"), b"204 NO_CONTENT"),
        (lambda kv: kv.delete(b"k"), b"200 OK"),
        (lambda kv: kv.stats(), b"200 OK"),
        (lambda kv: kv.stats(), b"200 OK v"),
        (lambda kv: kv.stats(), b"404 NOT_FOUND"),
    ],
)
def test_a_lie_is_an_error_and_ends_the_connection(call: Callable[[KVClient], object], reply: bytes) -> None:
    with fake_server(in_turn(sending(reply + b"\n"), RIGHT)) as server, client(server) as kv:
        with pytest.raises(
            KVProtocolError, match=f"^[A-Z]+( k)?: 127.0.0.1:{server.port} does not keep to KV/1.0: "
        ) as caught:
            call(kv)
        assert str(caught.value).isprintable()
        assert kv.get(b"k") == b"right"
        assert len(server.seen) == 2


@pytest.mark.parametrize("extra", [b"200 OK wrong\n", b"200 OK wr", b"\n", b"500 SERVER_ERROR\n"])
def test_a_reply_too_many_in_one_packet(extra: bytes) -> None:
    with fake_server(in_turn(sending(b"200 OK first\n" + extra), RIGHT)) as server, client(server) as kv:
        with pytest.raises(KVProtocolError, match="a reply too many"):
            kv.get(b"k")
        assert kv.get(b"k") == b"right"


def test_a_raw_request_hands_over_what_came_before_the_error() -> None:
    with fake_server(sending(b"200 OK first\nsecond\n")) as server, client(server) as kv:
        with pytest.raises(KVProtocolError, match="too many, 'second'") as caught:
            kv.request(b"KV/1.0 GET k")
        assert caught.value.results == [b"200 OK first"]


def test_a_reply_that_nobody_asked_for_is_not_read_as_the_next() -> None:
    later = Later(lambda peer: peer.send(b"200 OK wrong\n"))
    with fake_server(in_turn(later, RIGHT)) as server, client(server) as kv:
        assert kv.get(b"k") == b"first"
        later.happen()
        with pytest.raises(KVProtocolError, match=r"'200 OK wrong\\n' unasked"):
            kv.put(b"k", b"v")
        assert kv.get(b"k") == b"right"
        assert server.seen == [b"KV/1.0 GET k"] * 2


def test_a_late_reply_is_not_read_as_the_next() -> None:
    over, sent = threading.Event(), threading.Event()

    def late(peer: Peer) -> None:
        peer.line()
        assert over.wait(20)
        try:
            peer.send(b"200 OK late\n")
        finally:
            sent.set()
        peer.stall()

    with fake_server(in_turn(late, RIGHT)) as server, client(server, timeout_s=0.5) as kv:
        with pytest.raises(KVTimeout, match=f"^GET k: no reply from 127.0.0.1:{server.port}: none came within 0.5 s$"):
            kv.get(b"k")
        over.set()
        assert sent.wait(20)
        assert kv.get(b"k") == b"right"


def test_dripping_bytes_do_not_stretch_the_deadline() -> None:
    def drip(peer: Peer) -> None:
        peer.line()
        peer.send(b"2")
        while not peer.stop.wait(0.02):
            peer.send(b"2")

    late = pytest.raises(KVTimeout, match=r"only a part of it came within 0.5 s")
    with fake_server(drip) as server, client(server, timeout_s=0.5) as kv, late:  # a limit per recv would never end
        kv.get(b"k")


def test_a_reply_in_single_bytes_is_whole() -> None:
    def drip(peer: Peer) -> None:
        for _ in range(2):
            peer.line()
            for byte in "200 OK größe\n".encode():
                peer.send(bytes([byte]))
                time.sleep(0.002)

    with fake_server(drip) as server, client(server) as kv:
        assert [kv.get(b"k"), kv.get(b"k")] == ["größe".encode()] * 2


def test_a_server_that_takes_nothing_in() -> None:
    with fake_server(Peer.stall) as server, client(server, timeout_s=0.3) as kv, pytest.raises(KVTimeout):
        kv.put(b"k", b"v" * 50_000_000)


def test_a_giant_reply() -> None:
    value = bytes(range(11, 256)) * 200_000
    with fake_server(answering(b"200 OK " + value, b"404 NOT_FOUND")) as server, client(server) as kv:
        assert kv.get(b"k") == value
        assert kv.get(b"k") is None


def test_the_limit_of_a_reply() -> None:
    handler = answering(b"200 OK 1234567", b"200 OK 12345678")
    with fake_server(handler) as server, client(server, max_reply_bytes=14) as kv:
        assert kv.get(b"k") == b"1234567"
        with pytest.raises(KVProtocolError, match="a reply over the limit of 14 bytes"):
            kv.get(b"k")


def test_an_endless_reply_ends_at_the_limit() -> None:
    def endless(peer: Peer) -> None:
        peer.line()
        while True:
            peer.send(b"2" * 100_000)

    with fake_server(in_turn(endless, RIGHT)) as server, client(server, max_reply_bytes=1_000_000) as kv:
        with pytest.raises(KVProtocolError, match="a reply over the limit of 1000000 bytes"):
            kv.get(b"k")
        assert kv.get(b"k") == b"right"


def test_small_requests_leave_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    connect = socket.create_connection

    def remember(*args: object) -> socket.socket:
        made.append(connect(*args))  # type: ignore[arg-type]
        return made[0]

    with fake_server(honest()) as server, client(server) as kv:
        monkeypatch.setattr(socket, "create_connection", remember)
        kv.connect()
        assert made[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


class CutSocket:
    """A socket whose peer's replies come in given pieces, and which takes in a given number of bytes at a time."""

    def __init__(self, pieces: list[bytes], room: int) -> None:
        self.pieces = pieces
        self.room = room

    def recv(self, size: int) -> bytes:
        assert len(self.pieces[0]) <= size
        return self.pieces.pop(0)

    def send(self, data: memoryview) -> int:
        return min(len(data), self.room)

    def settimeout(self, _: float) -> None: ...
    def setsockopt(self, *_: int) -> None: ...
    def close(self) -> None: ...


@given(
    values=st.lists(st.one_of(st.none(), st.binary(min_size=1).filter(lambda v: b"\n" not in v)), min_size=1),
    cuts=st.lists(st.integers(min_value=0), max_size=30),
    room=st.integers(1, 60),
)
def test_results_do_not_depend_on_where_packets_are_cut(values: list[bytes | None], cuts: list[int], room: int) -> None:
    stream = b"".join(b"404 NOT_FOUND\n" if value is None else b"200 OK %s\n" % value for value in values)
    places = [0, *sorted({cut % len(stream) for cut in cuts} - {0}), len(stream)]
    pieces = [stream[start:end] for start, end in pairwise(places)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "create_connection", lambda *_: CutSocket(pieces, room))
        pipeline = KVClient().pipeline()
        for _ in values:
            pipeline.get(b"k")
        assert pipeline.execute() == values
    assert pieces == []
