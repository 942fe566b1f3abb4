"""The TLS transport without a server: bytes pass unchanged in any pieces, and nothing is left in it while one waits."""

import contextlib
import random
import re
import select
import shutil
import socket
import ssl
import subprocess
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import trustme

from kvss_gevent.server.security.tls import CHUNK_BYTES, RECORD_BYTES, server_context, tls
from kvss_gevent.server.transport import PlainClientError, TlsError, Transport


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def context(authority: trustme.CA, tmp_path: Path) -> ssl.SSLContext:
    one = authority.issue_cert("localhost")
    one.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    one.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    return server_context(tmp_path / "cert.pem", tmp_path / "key.pem")


def client_context(authority: trustme.CA, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if version:
        context.maximum_version = version
    return context


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.settimeout(10)
    with ours, theirs:
        yield ours, theirs


def received(transport: Transport, sock: socket.socket, count: int, room: int = 65536) -> bytes:
    """Receive as the server's loop does: wait for the socket and for nothing else."""
    data = b""
    sock.settimeout(0)
    while len(data) < count:
        wait_readable(sock)
        try:
            part = transport.recv(room)
        except BlockingIOError:
            continue
        except ConnectionResetError:
            break
        if not part:
            break
        data += part
    return data


def wait_readable(sock: socket.socket) -> None:
    assert select.select([sock], [], [], 10)[0], "nothing came: bytes are left inside"


def test_bytes_pass_unchanged_in_any_pieces(
    authority: trustme.CA, context: ssl.SSLContext, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    chance = random.Random(5)
    sent = [chance.randbytes(chance.choice([1, 10, 500, 20_000, 70_000])) for _ in range(40)]
    echoed = []

    def client() -> None:
        with client_context(authority).wrap_socket(theirs, server_hostname="localhost") as sock:
            for piece in sent:
                sock.sendall(piece)
                got = b""
                while len(got) < len(piece):
                    got += sock.recv(65536)
                echoed.append(got)

    thread = threading.Thread(target=client)
    thread.start()
    transport = tls(context)(ours)
    for piece in sent:
        data = received(transport, ours, len(piece), room=chance.choice([448, 5_000, 65_536]))
        view = memoryview(data)
        while view:
            try:
                view = view[transport.send(view) :]
            except BlockingIOError:
                pass
    thread.join(10)
    assert echoed == sent


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_many_records_that_arrive_together_are_received_together(
    authority: trustme.CA, context: ssl.SSLContext, pair: tuple[socket.socket, socket.socket], version: ssl.TLSVersion
) -> None:
    ours, theirs = pair
    stop = threading.Event()

    def client() -> None:
        with client_context(authority, version).wrap_socket(theirs, server_hostname="localhost") as sock:
            for number in range(50):
                sock.sendall(b"%02d" % number)
            stop.wait(10)

    thread = threading.Thread(target=client)
    thread.start()
    transport = tls(context)(ours)
    assert received(transport, ours, 100) == b"".join(b"%02d" % number for number in range(50))
    stop.set()
    thread.join(10)


def test_a_client_that_reads_late_has_what_was_refused_for_the_moment(
    authority: trustme.CA, context: ssl.SSLContext, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    full = threading.Event()
    data = random.Random(7).randbytes(4 << 20)
    got = bytearray()

    def client() -> None:
        with client_context(authority).wrap_socket(theirs, server_hostname="localhost") as sock:
            sock.sendall(b"x")
            full.wait(10)
            while len(got) < len(data):
                got.extend(sock.recv(65536))

    thread = threading.Thread(target=client)
    thread.start()
    transport = tls(context)(ours)
    received(transport, ours, 1)
    unsent = memoryview(data)
    while unsent:
        try:
            taken = transport.send(unsent)
        except BlockingIOError:
            full.set()
            assert select.select([], [ours], [], 10)[1]
        else:
            assert taken <= CHUNK_BYTES
            unsent = unsent[taken:]
    assert full.is_set()
    thread.join(10)
    assert got == data


def test_a_record_larger_than_the_room_leaves_nothing_behind(
    authority: trustme.CA, context: ssl.SSLContext, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    stop = threading.Event()
    data = random.Random(8).randbytes(16_000)

    def client() -> None:
        with client_context(authority).wrap_socket(theirs, server_hostname="localhost") as sock:
            sock.sendall(data)
            stop.wait(10)

    thread = threading.Thread(target=client)
    thread.start()
    transport = tls(context)(ours)
    assert received(transport, ours, len(data), room=448) == data
    with pytest.raises(BlockingIOError):
        transport.recv(448)
    stop.set()
    thread.join(10)


def test_a_plain_client_is_told_apart_by_its_first_byte(
    context: ssl.SSLContext, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    theirs.sendall(b"KV/1.0 GET a\n")
    with pytest.raises(PlainClientError):
        tls(context)(ours).recv(448)


def test_rubbish_behind_the_first_byte_is_an_error(
    context: ssl.SSLContext, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    theirs.sendall(b"\x16" + bytes(200))
    with pytest.raises(TlsError, match="TLS:"):
        tls(context)(ours).recv(448)


@pytest.mark.parametrize("polite", [True, False])
def test_the_end_of_the_stream_is_the_end(
    authority: trustme.CA, context: ssl.SSLContext, pair: tuple[socket.socket, socket.socket], polite: bool
) -> None:
    ours, theirs = pair

    def client() -> None:
        sock = client_context(authority).wrap_socket(theirs, server_hostname="localhost")
        sock.sendall(b"last words")
        if polite:
            try:
                sock.unwrap()
            except (OSError, ssl.SSLError):
                pass
        sock.close()

    thread = threading.Thread(target=client)
    thread.start()
    transport = tls(context)(ours)
    assert received(transport, ours, 1000) == b"last words"
    transport.finish()
    ours.close()
    thread.join(10)


def test_a_client_without_a_certificate_is_refused_where_one_is_asked(
    authority: trustme.CA, tmp_path: Path, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    one = authority.issue_cert("localhost")
    one.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "both.pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = server_context(tmp_path / "both.pem", tmp_path / "both.pem", tmp_path / "ca.pem")

    told = []

    def client() -> None:
        try:
            with client_context(authority).wrap_socket(theirs, server_hostname="localhost") as sock:
                sock.recv(10)
        except ssl.SSLError as error:
            told.append(error.reason)

    thread = threading.Thread(target=client)
    thread.start()
    with pytest.raises(TlsError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        received(tls(context)(ours), ours, 1)
    ours.close()
    thread.join(10)
    assert told == ["TLSV13_ALERT_CERTIFICATE_REQUIRED"]


class Peer:
    """A client in the thread of the test: it seals and opens records, and the test sends them as it likes."""

    def __init__(self, context: ssl.SSLContext, sock: socket.socket, transport: Transport) -> None:
        self.sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        while not transport.is_ready():
            with contextlib.suppress(ssl.SSLWantReadError):
                self.tls.do_handshake()
            sock.sendall(self._outgoing.read())
            with contextlib.suppress(BlockingIOError):
                transport.recv(65536)
            with contextlib.suppress(BlockingIOError):
                self._incoming.write(sock.recv(65536, socket.MSG_DONTWAIT))
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        sock.sendall(self._outgoing.read())

    def sealed(self, data: bytes) -> bytes:
        self.tls.write(data)
        return self._outgoing.read()

    def end(self) -> bytes:
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        return self._outgoing.read()

    def opened(self) -> bytes:
        """Return what whole records hold of all that the server's kernel has taken; it ends with the stream."""
        parts = []
        while packet := self.sock.recv(65536):
            self._incoming.write(packet)
            with contextlib.suppress(ssl.SSLWantReadError):
                while part := self.tls.read(65536):
                    parts.append(part)
        return b"".join(parts)


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def talk(
    request: pytest.FixtureRequest,
    authority: trustme.CA,
    context: ssl.SSLContext,
    pair: tuple[socket.socket, socket.socket],
) -> tuple[Transport, Peer]:
    """Return both ends of a connection after its handshake."""
    transport = tls(context)(pair[0])
    peer = Peer(client_context(authority, request.param), pair[1], transport)
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
def test_what_a_client_leaves_reaches_no_other(
    authority: trustme.CA, context: ssl.SSLContext, pair: tuple[socket.socket, socket.socket], left: str
) -> None:
    make_transport = tls(context)
    first, second = socket.socketpair()
    first.setblocking(False)
    with first, second:
        one, other = make_transport(pair[0]), make_transport(first)
        peer = Peer(client_context(authority), pair[1], one)
        neighbour = Peer(client_context(authority), second, other)
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


@pytest.mark.skipif(not shutil.which("openssl"), reason="Python's own client cannot ask for new keys")
def test_new_keys_that_a_client_asks_for_are_told_before_the_next_bytes(context: ssl.SSLContext) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        subprocess.Popen(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{listener.getsockname()[1]}", "-msg"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as client,
    ):
        assert client.stdin
        assert client.stdout
        cut_off = threading.Timer(20, client.kill)
        cut_off.start()
        ours, _ = listener.accept()
        ours.setblocking(False)
        transport = tls(context)(ours)
        while not transport.is_ready():
            wait_readable(ours)
            with contextlib.suppress(BlockingIOError):
                transport.recv(448)
        client.stdin.write(b"K\n")  # the letter is a command of s_client
        client.stdin.flush()
        wait_readable(ours)
        with pytest.raises(BlockingIOError):
            transport.recv(448)
        client.stdin.write(b"after it\n")
        client.stdin.flush()
        assert received(transport, ours, 9) == b"after it\n"
        assert transport.send(b"and back\n") == 9
        transport.finish()
        ours.close()
        output = client.stdout.read()
        assert re.search(rb"<<< .*KeyUpdate(?s:.*)and back", output), output
        cut_off.cancel()


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
