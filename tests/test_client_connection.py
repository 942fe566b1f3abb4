"""The client against servers that lie, stall, drip, cut and close: no wrong reply is taken, nothing is sent twice."""

import asyncio
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable
from itertools import pairwise

import pytest
import uvloop
from fake_server import FakeServer, Handler, Peer, answering, fake_server, honest, in_turn
from hypothesis import given
from hypothesis import strategies as st
from serving import deaf_port

from kvss_gevent import (
    AsyncKVClient,
    KVBadRequest,
    KVClient,
    KVConnectError,
    KVConnectionLost,
    KVError,
    KVProtocolError,
    KVServerError,
    KVTimeout,
)

RIGHT = answering(b"200 OK right")


def sending(data: bytes) -> Handler:
    """Answer one request with these bytes and close."""

    def handle(peer: Peer) -> None:
        peer.line()
        peer.send(data)

    return handle


class Later:
    """Answers one request with `first`, waits until it is told to act, and ends the connection."""

    def __init__(self, act: Handler) -> None:
        self._act = act
        self._go_on, self._acted = threading.Event(), threading.Event()

    def __call__(self, peer: Peer) -> None:
        peer.line()
        peer.send(b"200 OK first\n")
        assert self._go_on.wait(20)
        self._act(peer)
        self._acted.set()

    def happen(self) -> None:
        self._go_on.set()
        assert self._acted.wait(20)


def client(server: FakeServer, timeout_s: float = 20, max_reply_bytes: int = 64 << 20) -> KVClient:
    return KVClient("127.0.0.1", server.port, timeout_s=timeout_s, max_reply_bytes=max_reply_bytes)


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


@pytest.mark.parametrize(
    ("data", "where"), [(b"200 OK ri", "in the middle of a reply"), (b"", "before the reply")], ids=["cut", "closed"]
)
def test_a_lost_connection_is_told_and_nothing_is_sent_twice(data: bytes, where: str) -> None:
    with fake_server(in_turn(sending(data), RIGHT)) as server, client(server) as kv:
        message = f"^PUT k: lost the connection to 127.0.0.1:{server.port}: the server closed it {where}$"
        with pytest.raises(KVConnectionLost, match=message):
            kv.put(b"k", b"v")
        assert server.seen == [b"KV/1.0 PUT k v"]
        assert kv.get(b"k") == b"right"
        assert server.seen == [b"KV/1.0 PUT k v", b"KV/1.0 GET k"]


def reset(peer: Peer) -> None:
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.sock.close()


def close(peer: Peer) -> None:
    peer.sock.close()


def test_a_reset_before_the_reply() -> None:
    def handle(peer: Peer) -> None:
        peer.line()
        reset(peer)

    with fake_server(in_turn(handle, RIGHT)) as server, client(server) as kv:
        with pytest.raises(KVConnectionLost, match="reset"):
            kv.delete(b"k")
        assert kv.get(b"k") == b"right"


@pytest.mark.parametrize("end", [close, reset], ids=["closed", "reset"])
def test_an_idle_connection_that_ended_is_replaced(end: Handler) -> None:
    later = Later(end)
    with fake_server(in_turn(later, RIGHT)) as server, client(server) as kv:
        assert kv.get(b"k") == b"first"
        later.happen()
        assert kv.get(b"k") == b"right"
        assert kv.connections_made == 2


def test_a_full_server_says_500_and_closes() -> None:
    def full(peer: Peer) -> None:
        peer.send(b"500 SERVER_ERROR\n")

    with fake_server(full) as server:
        for _ in range(20):  # the close overtakes the request, or not
            with client(server) as kv, pytest.raises(KVServerError):
                kv.put(b"k", b"v" * 100_000)
        with client(server) as kv, pytest.raises(KVConnectionLost) as caught:
            kv.pipeline().get(b"a").get(b"b").execute()
        assert [type(result) for result in caught.value.results] == [KVServerError]


@pytest.mark.parametrize("requests", [1, 2])
def test_500_on_an_idle_connection(requests: int) -> None:
    def refuse(peer: Peer) -> None:
        peer.send(b"500 SERVER_ERROR\n")
        peer.sock.close()

    later = Later(refuse)
    with fake_server(in_turn(later, RIGHT)) as server, client(server) as kv:
        assert kv.get(b"k") == b"first"
        later.happen()
        pipeline = kv.pipeline()
        for _ in range(requests):
            pipeline.put(b"k", b"v")
        with pytest.raises(KVError) as caught:
            pipeline.execute()
        assert type(caught.value) is (KVServerError if requests == 1 else KVConnectionLost)
        assert [type(result) for result in caught.value.results] == [KVServerError]
        assert kv.get(b"k") == b"right"
        assert server.seen == [b"KV/1.0 GET k"] * 2


def test_a_line_refused_before_its_end() -> None:
    def strict(peer: Peer) -> None:
        peer.sock.recv(1000)
        peer.send(b"400 BAD_REQUEST\n")

    with fake_server(in_turn(strict, RIGHT)) as server, client(server) as kv:
        with pytest.raises(KVBadRequest):
            kv.put(b"k", b"v" * 20_000_000)
        assert kv.get(b"k") == b"right"


def early(reply: bytes, heard: threading.Event) -> Handler:
    """Answer the first line, then the second long before its end, and take no more of it; leave when it was heard."""

    def handle(peer: Peer) -> None:
        assert peer.line()
        peer.send(b"200 OK first\n")
        peer.send(reply)
        heard.wait(20)

    return handle


def test_an_early_refusal_in_a_pipeline() -> None:
    heard = threading.Event()
    with fake_server(in_turn(early(b"400 BAD_REQUEST\n", heard), RIGHT)) as server, client(server) as kv:
        results = kv.pipeline().get(b"a").put(b"k", b"v" * 20_000_000).execute(raise_errors=False)
        heard.set()
        assert (results[0], type(results[1])) == (b"first", KVBadRequest)
        assert kv.get(b"k") == b"right"


def test_success_before_the_request_is_whole_is_a_lie() -> None:
    heard = threading.Event()
    with fake_server(in_turn(early(b"201 CREATED\n", heard), RIGHT)) as server, client(server) as kv:
        with pytest.raises(KVProtocolError, match="'201 CREATED' before it had the request") as caught:
            kv.pipeline().get(b"a").put(b"k", b"v" * 20_000_000).execute()
        heard.set()
        assert caught.value.results == [b"first"]
        assert kv.get(b"k") == b"right"


def test_a_cut_pipeline_keeps_its_results_and_is_not_sent_again() -> None:
    def cut(peer: Peer) -> None:
        for _ in range(4):
            peer.line()
        peer.send(b"201 CREATED\n400 BAD_REQUEST\n200 O")

    with fake_server(in_turn(cut, RIGHT)) as server, client(server) as kv:
        pipeline = kv.pipeline().put(b"a", b"1").put(b"b", b"2").get(b"a").put(b"c", b"3")
        with pytest.raises(KVConnectionLost) as caught:
            pipeline.execute()
        assert [type(result) for result in caught.value.results] == [bool, KVBadRequest]
        assert pipeline.execute() == []
        assert kv.get(b"k") == b"right"
        assert len(server.seen) == 5


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


class Interrupted(BaseException):
    pass


def test_an_interrupted_call_closes_the_connection() -> None:
    def slow(peer: Peer) -> None:
        peer.line()
        os.kill(os.getpid(), signal.SIGUSR1)
        peer.stop.wait(0.2)
        peer.send(b"200 OK late\n")
        peer.stall()

    def interrupt(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with fake_server(in_turn(slow, RIGHT)) as server, client(server) as kv:
            with pytest.raises(Interrupted):
                kv.get(b"k")
            assert kv.get(b"k") == b"right"
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid", "a" * 70 + ".invalid", "nul\x00"])
def test_no_connection(host: str) -> None:
    with deaf_port() as port:
        for call in (KVClient(host, port).connect, KVClient(host, port).stats):
            with pytest.raises(KVConnectError, match=r"^(STATS: )?cannot connect to [^ ]+:[0-9]+: .") as caught:
                call()
            assert (caught.value.host, caught.value.port) == (host, port)


def test_connecting_is_bounded() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(address)
            with pytest.raises(KVConnectError, match=r"no answer within 0.2 s"):
                KVClient(*address, connect_timeout_s=0.2).connect()
        finally:
            for filler in fillers:
                filler.close()


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


@pytest.mark.parametrize("loops", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_farewell_is_read_though_the_next_request_finds_the_connection_reset(
    loops: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    still, reset = threading.Event(), threading.Event()

    def handle(peer: Peer) -> None:
        peer.line()
        still.wait(20)
        peer.send(b"500 SERVER_ERROR\n")
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.sock.close()
        reset.set()

    async def outcomes() -> list[object]:
        async with AsyncKVClient("127.0.0.1", server.port, timeout_s=20) as kv:
            first = asyncio.ensure_future(kv.get(b"k"))
            while not server.seen:
                await asyncio.sleep(0.001)
            second = asyncio.ensure_future(kv.get(b"k"))
            await asyncio.sleep(0)  # its line goes out in the next turn of the event loop, before that reads anything
            still.set()
            assert reset.wait(20)
            return await asyncio.gather(first, second, return_exceptions=True)

    with fake_server(handle) as server, asyncio.Runner(loop_factory=loops) as runner:
        assert list(map(type, runner.run(outcomes()))) == [KVServerError, KVConnectionLost]
