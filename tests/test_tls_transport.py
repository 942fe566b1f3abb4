"""The TLS transport with the client of the standard library: bytes pass unchanged in any pieces, and all of them."""

import contextlib
import random
import re
import select
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tls_peer import authority, client_context, connected, received, server_side, wait_readable

from kvss_gevent.server.security.tls import CHUNK_BYTES, server_context, tls
from kvss_gevent.server.transport import PlainClientError, TlsError


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with connected() as sockets:
        yield sockets


def test_bytes_pass_unchanged_in_any_pieces(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    chance = random.Random(5)
    sent = [chance.randbytes(chance.choice([1, 10, 500, 20_000, 70_000])) for _ in range(40)]
    echoed = []

    def client() -> None:
        with client_context().wrap_socket(theirs, server_hostname="localhost") as sock:
            for piece in sent:
                sock.sendall(piece)
                got = b""
                while len(got) < len(piece):
                    got += sock.recv(65536)
                echoed.append(got)

    thread = threading.Thread(target=client)
    thread.start()
    transport = tls(server_side())(ours)
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
    pair: tuple[socket.socket, socket.socket], version: ssl.TLSVersion
) -> None:
    ours, theirs = pair
    stop = threading.Event()

    def client() -> None:
        with client_context(version).wrap_socket(theirs, server_hostname="localhost") as sock:
            for number in range(50):
                sock.sendall(b"%02d" % number)
            stop.wait(10)

    thread = threading.Thread(target=client)
    thread.start()
    transport = tls(server_side())(ours)
    assert received(transport, ours, 100) == b"".join(b"%02d" % number for number in range(50))
    stop.set()
    thread.join(10)


def test_a_client_that_reads_late_has_what_was_refused_for_the_moment(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    full = threading.Event()
    data = random.Random(7).randbytes(4 << 20)
    got = bytearray()

    def client() -> None:
        with client_context().wrap_socket(theirs, server_hostname="localhost") as sock:
            sock.sendall(b"x")
            full.wait(10)
            while len(got) < len(data):
                got.extend(sock.recv(65536))

    thread = threading.Thread(target=client)
    thread.start()
    transport = tls(server_side())(ours)
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


def test_a_record_larger_than_the_room_leaves_nothing_behind(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    stop = threading.Event()
    data = random.Random(8).randbytes(16_000)

    def client() -> None:
        with client_context().wrap_socket(theirs, server_hostname="localhost") as sock:
            sock.sendall(data)
            stop.wait(10)

    thread = threading.Thread(target=client)
    thread.start()
    transport = tls(server_side())(ours)
    assert received(transport, ours, len(data), room=448) == data
    with pytest.raises(BlockingIOError):
        transport.recv(448)
    stop.set()
    thread.join(10)


def test_a_plain_client_is_told_apart_by_its_first_byte(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.sendall(b"KV/1.0 GET a\n")
    with pytest.raises(PlainClientError):
        tls(server_side())(ours).recv(448)


def test_rubbish_behind_the_first_byte_is_an_error(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.sendall(b"\x16" + bytes(200))
    with pytest.raises(TlsError, match="TLS:"):
        tls(server_side())(ours).recv(448)


@pytest.mark.parametrize("polite", [True, False])
def test_the_end_of_the_stream_is_the_end(pair: tuple[socket.socket, socket.socket], polite: bool) -> None:
    ours, theirs = pair

    def client() -> None:
        sock = client_context().wrap_socket(theirs, server_hostname="localhost")
        sock.sendall(b"last words")
        if polite:
            try:
                sock.unwrap()
            except (OSError, ssl.SSLError):
                pass
        sock.close()

    thread = threading.Thread(target=client)
    thread.start()
    transport = tls(server_side())(ours)
    assert received(transport, ours, 1000) == b"last words"
    transport.finish()
    ours.close()
    thread.join(10)


def test_a_client_without_a_certificate_is_refused_where_one_is_asked(
    tmp_path: Path, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    one = authority().issue_cert("localhost")
    one.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "both.pem"))
    authority().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = server_context(tmp_path / "both.pem", tmp_path / "both.pem", tmp_path / "ca.pem")

    told = []

    def client() -> None:
        try:
            with client_context().wrap_socket(theirs, server_hostname="localhost") as sock:
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


@pytest.mark.skipif(not shutil.which("openssl"), reason="Python's own client cannot ask for new keys")
def test_new_keys_that_a_client_asks_for_are_told_before_the_next_bytes() -> None:
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
        transport = tls(server_side())(ours)
        while not transport.is_ready():
            wait_readable(ours)
            with contextlib.suppress(BlockingIOError):
                transport.recv(448)
        client.stdin.write(b"K\n")  # the letter is a command of s_client
        client.stdin.flush()
        wait_readable(ours)
        with pytest.raises(BlockingIOError):
            transport.recv(448)
        assert transport.partial() is None
        client.stdin.write(b"after it\n")
        client.stdin.flush()
        assert received(transport, ours, 9) == b"after it\n"
        assert transport.send(b"and back\n") == 9
        transport.finish()
        ours.close()
        output = client.stdout.read()
        assert re.search(rb"<<< .*KeyUpdate(?s:.*)and back", output), output
        cut_off.cancel()
