"""The TLS transport, record by record: what comes in parts or together, and what is left in it while it waits."""

import contextlib
import random
import select
import socket
import ssl
import tracemalloc
from bisect import bisect
from collections.abc import Iterator
from itertools import accumulate, pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
from tls_peer import Peer, client_context, connected, received, server_side

from kvss_gevent.server.security.tls import CHUNK_BYTES, RECORD_BYTES, tls
from kvss_gevent.server.transport import TlsError, Transport


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with connected() as sockets:
        yield sockets


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def talk(request: pytest.FixtureRequest, pair: tuple[socket.socket, socket.socket]) -> tuple[Transport, Peer]:
    """Return both ends of a connection after its handshake."""
    transport = tls(server_side())(pair[0])
    peer = Peer(client_context(request.param), pair[1], transport)
    with contextlib.suppress(BlockingIOError):
        transport.recv(448)
    return transport, peer


def test_last_words_and_the_end_in_one_packet(
    talk: tuple[Transport, Peer], pair: tuple[socket.socket, socket.socket]
) -> None:
    transport, peer = talk
    peer.sock.sendall(peer.sealed(b"last words") + peer.end())
    assert received(transport, pair[0], 1000) == b"last words"


def test_all_records_that_came_are_returned_and_the_rest_of_one_when_it_comes(talk: tuple[Transport, Peer]) -> None:
    transport, peer = talk
    records = peer.sealed(b"one") + peer.sealed(b"two")
    third = peer.sealed(b"three")
    peer.sock.sendall(records + third[:-1])
    assert transport.recv(448) == b"onetwo"
    with pytest.raises(BlockingIOError):
        transport.recv(448)
    peer.sock.sendall(third[-1:])
    assert transport.recv(448) == b"three"


def test_a_record_that_comes_byte_by_byte_is_returned_with_its_last_byte(talk: tuple[Transport, Peer]) -> None:
    transport, peer = talk
    record = peer.sealed(b"KV/1.0 GET a\n")
    for byte in record[:-1]:
        peer.sock.sendall(bytes([byte]))
        with pytest.raises(BlockingIOError):
            transport.recv(448)
    peer.sock.sendall(record[-1:])
    assert transport.recv(448) == b"KV/1.0 GET a\n"


def test_the_transport_tells_whether_the_last_record_is_whole_wherever_the_stream_is_cut(
    talk: tuple[Transport, Peer], pair: tuple[socket.socket, socket.socket]
) -> None:
    transport, peer = talk
    chance = random.Random(11)
    records = [peer.sealed(bytes(chance.choice([1, 20, 448, 500, RECORD_BYTES]))) for _ in range(100)]
    stream, ends = b"".join(records), set(accumulate(map(len, records)))
    cuts = {end - chance.choice([0, 1, 3, 19, 30, 300]) for end in ends for _ in range(3)}
    told = {}
    at = 0
    for upto in sorted(cut for cut in cuts if cut > 0):
        peer.sock.sendall(stream[at:upto])
        while select.select([pair[0]], [], [], 0)[0]:
            with contextlib.suppress(BlockingIOError):
                transport.recv(448)
        told[upto] = transport.partial()
        at = upto
    assert {upto for upto, partial in told.items() if partial is None} == ends & told.keys()
    record_of = {upto: bisect(sorted(ends), upto) for upto, partial in told.items() if partial is not None}
    assert len(record_of) > 50
    for (one, its), (other, others) in pairwise(record_of.items()):
        assert (told[one] is told[other]) == (its == others)


@pytest.mark.parametrize(("message", "is_whole"), [(b"\x18\0\0\1\0", True), (b"\x18\0\0\1", False)])
def test_the_transport_tells_whether_a_message_with_new_keys_is_whole(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path, message: bytes, is_whole: bool
) -> None:
    transport = tls(server_side())(pair[0])
    context = client_context()
    context.keylog_filename = str(tmp_path / "keys")
    peer = Peer(context, pair[1], transport)
    peer.sock.sendall(peer.in_handshake(message))
    while select.select([pair[0]], [], [], 0)[0]:
        with contextlib.suppress(BlockingIOError):
            transport.recv(448)
    assert (transport.partial() is None) == is_whole
    assert transport.partial() is transport.partial()


def test_no_more_is_received_at_a_time_than_there_is_room_for_and_one_record(talk: tuple[Transport, Peer]) -> None:
    transport, peer = talk
    data = random.Random(9).randbytes(100_000)
    peer.sock.sendall(peer.sealed(data))
    parts = []
    while sum(map(len, parts)) < len(data):
        with contextlib.suppress(BlockingIOError):
            parts.append(transport.recv(448))
    assert b"".join(parts) == data
    assert max(map(len, parts)) <= 448 + RECORD_BYTES


def test_what_send_has_taken_has_left(talk: tuple[Transport, Peer], pair: tuple[socket.socket, socket.socket]) -> None:
    transport, peer = talk
    pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 100_000)
    data = random.Random(10).randbytes(4 << 20)
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            sent += transport.send(memoryview(data)[sent:])
    pair[0].close()  # whatever still waited in the transport is lost
    assert 0 < sent < len(data)
    assert peer.opened()[:sent] == data[:sent]


def test_the_end_comes_behind_all_that_was_sent(
    talk: tuple[Transport, Peer], pair: tuple[socket.socket, socket.socket]
) -> None:
    transport, peer = talk
    assert transport.send(b"200 OK\n") == 7
    transport.finish()
    pair[0].close()
    assert peer.opened() == b"200 OK\n"
    assert peer.tls.read(1) == b"", "the end was not told"


@pytest.mark.parametrize("left", ["rubbish", "more than its end"])
def test_what_a_client_leaves_reaches_no_other(pair: tuple[socket.socket, socket.socket], left: str) -> None:
    make_transport = tls(server_side())
    first, second = socket.socketpair()
    first.setblocking(False)
    with first, second:
        one, other = make_transport(pair[0]), make_transport(first)
        peer = Peer(client_context(), pair[1], one)
        neighbour = Peer(client_context(), second, other)
        if left == "rubbish":
            peer.sock.sendall(peer.sealed(b"a") + bytes(200))
            with pytest.raises(TlsError):
                one.recv(65536)
        else:
            peer.sock.sendall(peer.sealed(b"a") + peer.end() + bytes(200))
            assert one.recv(65536) == b"a"
            assert one.recv(65536) == b""
        one.finish()
        neighbour.sock.sendall(neighbour.sealed(b"b"))
        assert other.recv(448) == b"b"


class Talker:
    """Stands for OpenSSL with a client that asks for new keys again and again: each time there is something to say.

    What it encrypts stays as it is.
    """

    def __init__(self, says: bytes, outgoing: ssl.MemoryBIO) -> None:
        self._says = says
        self._outgoing = outgoing

    def do_handshake(self) -> None:
        pass

    def read(self, _: int) -> bytes:
        self._outgoing.write(self._says)
        raise ssl.SSLWantReadError

    def write(self, data: bytes) -> int:
        return self._outgoing.write(data)

    def pending(self) -> int:
        return 0


def talking(sock: socket.socket, says: bytes) -> Transport:
    context = SimpleNamespace(_wrap_bio=lambda _, outgoing, server_side: Talker(says, outgoing))
    return tls(context)(sock)  # type: ignore[arg-type]


def asked(transport: Transport, sock: socket.socket) -> None:
    sock.sendall(b"\x16")
    with contextlib.suppress(BlockingIOError):
        transport.recv(448)


def test_answers_that_a_client_does_not_take_have_a_bound(pair: tuple[socket.socket, socket.socket]) -> None:
    transport = talking(pair[0], bytes(1000))

    def ask() -> None:
        for _ in range(1000):
            asked(transport, pair[1])

    tracemalloc.start()
    try:
        with pytest.raises(TlsError, match="takes no answer"):
            ask()
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most_bytes < 8 * CHUNK_BYTES


def test_an_answer_waits_behind_what_was_encrypted_before(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    transport = talking(ours, b"!")
    asked(transport, theirs)
    assert theirs.recv(10) == b"!"
    unsent, got = memoryview(bytes(1 << 20)), b""
    while unsent:
        try:
            unsent = unsent[transport.send(unsent) :]
        except BlockingIOError:
            got += theirs.recv(1 << 20)
            asked(transport, theirs)
    ours.close()
    while part := theirs.recv(1 << 20):
        got += part
    assert len(got) > 1 << 20
    assert not got.replace(b"!", b"").strip(b"\0")
    assert got.count(0) == 1 << 20
