"""Both sides of a TLS connection without a server: the transport of one end, and clients for the other."""

import contextlib
import functools
import select
import socket
import ssl
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from kvss_gevent.server.security.tls import server_context
from kvss_gevent.server.transport import Transport


@functools.cache
def authority() -> trustme.CA:
    return trustme.CA()


@functools.cache
def server_side() -> ssl.SSLContext:
    """Return the context of a server that clients with client_context trust as localhost."""
    with tempfile.TemporaryDirectory() as folder:
        both = Path(folder, "both.pem")
        authority().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(both))
        return server_context(both, both)


def client_context(version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority().configure_trust(context)
    if version:
        context.maximum_version = version
    return context


@contextlib.contextmanager
def connected() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return the sockets of the server, which does not block, and of the client."""
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

    def in_handshake(self, message: bytes) -> bytes:
        """Return a record with a message of a handshake, sealed here: OpenSSL sends none in parts.

        It must be the first record after the handshake, of TLS 1.3. The context must write a log of its keys.
        """
        assert self.tls.cipher() == ("TLS_AES_256_GCM_SHA384", "TLSv1.3", 256)
        log = Path(self.tls.context.keylog_filename or "").read_text().splitlines()
        [secret] = [bytes.fromhex(line.split()[2]) for line in log if line.startswith("CLIENT_TRAFFIC_SECRET_0 ")]

        def derived(label: bytes, size: int) -> bytes:
            info = struct.pack(">HB", size, len(label)) + label + b"\0"
            return HKDFExpand(SHA384(), size, info).derive(secret)

        plain = message + b"\x16"
        head = struct.pack(">BHH", 0x17, 0x303, len(plain) + 16)
        return head + AESGCM(derived(b"tls13 key", 32)).encrypt(derived(b"tls13 iv", 12), plain, head)

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
