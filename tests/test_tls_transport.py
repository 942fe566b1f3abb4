"""The TLS transport without a server: bytes pass unchanged in any pieces, and nothing is left in it while one waits."""

import contextlib
import random
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from kvss_gevent.server.security.tls import CHUNK_BYTES, TlsTransport, server_context
from kvss_gevent.server.transport import PlainClientError, TlsError


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


def received(transport: TlsTransport, sock: socket.socket, count: int, room: int = 65536) -> bytes:
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
    transport = TlsTransport(ours, context)
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
    transport = TlsTransport(ours, context)
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
    transport = TlsTransport(ours, context)
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
    transport = TlsTransport(ours, context)
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
        TlsTransport(ours, context).recv(448)


def test_rubbish_behind_the_first_byte_is_an_error(
    context: ssl.SSLContext, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    theirs.sendall(b"\x16" + bytes(200))
    with pytest.raises(TlsError, match="TLS:"):
        TlsTransport(ours, context).recv(448)


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
    transport = TlsTransport(ours, context)
    assert received(transport, ours, 1000) == b"last words"
    transport.close()
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

    def client() -> None:
        try:
            with client_context(authority).wrap_socket(theirs, server_hostname="localhost") as sock:
                sock.recv(10)
        except (OSError, ssl.SSLError):
            pass

    thread = threading.Thread(target=client)
    thread.start()
    with pytest.raises(TlsError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        received(TlsTransport(ours, context), ours, 1)
    ours.close()
    thread.join(10)


def test_last_words_and_the_end_in_one_packet(
    authority: trustme.CA, context: ssl.SSLContext, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    transport = TlsTransport(ours, context)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context(authority).wrap_bio(incoming, outgoing, server_hostname="localhost")
    while not transport.ready:
        with contextlib.suppress(ssl.SSLWantReadError):
            client.do_handshake()
        theirs.sendall(outgoing.read())
        with contextlib.suppress(BlockingIOError):
            transport.recv(65536)
        with contextlib.suppress(BlockingIOError):
            incoming.write(theirs.recv(65536, socket.MSG_DONTWAIT))
    client.write(b"last words")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.unwrap()
    theirs.sendall(outgoing.read())
    assert received(transport, ours, 1000) == b"last words"
