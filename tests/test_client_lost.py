"""Connections that end: before, in and after a reply, while nothing is asked, in a pipeline; and none at all."""

import asyncio
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable

import pytest
import uvloop
from client_peers import RIGHT, Later, client, sending
from fake_server import Handler, Peer, fake_server, in_turn
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
)


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


def early(reply: bytes, heard: threading.Event, pause_s: float = 0) -> Handler:
    """Answer the first line, then the second long before its end, and take no more of it; leave when it was heard."""

    def handle(peer: Peer) -> None:
        assert peer.line()
        peer.send(b"200 OK first\n")
        time.sleep(pause_s)
        peer.send(reply)
        heard.wait(20)

    return handle


@pytest.mark.parametrize("pause_s", [0, 0.3], ids=["at once", "while the client waits for room"])
def test_an_early_refusal_in_a_pipeline(pause_s: float) -> None:
    heard = threading.Event()
    with fake_server(in_turn(early(b"400 BAD_REQUEST\n", heard, pause_s), RIGHT)) as server, client(server) as kv:
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
