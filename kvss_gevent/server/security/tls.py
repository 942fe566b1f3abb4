"""TLS as a transport: the same two functions as a plain socket's, recv and send (rule 13).

OpenSSL reads and writes the socket itself, which does not block: it never waits, and reads no more than one record
asks for. So there is one loop for all connections, and it waits only for the socket.
"""

import socket
import ssl
from pathlib import Path
from typing import Any

from kvss_gevent.server.transport import MakeTransport, PlainClientError, TlsError, Transport
from kvss_gevent.settings.named_files import load_key

CHUNK_BYTES = 64 << 10
"""Plain bytes that are given to OpenSSL at a time. It keeps at most one record that the kernel has not taken."""
RECORD_BYTES = 16 << 10
"""The most plain bytes that a record can have."""
HELLO = 0x16
"""The first byte that a TLS client sends: the record type of a handshake."""


_MUST_WAIT = (ssl.SSLWantReadError, ssl.SSLWantWriteError)


class TlsTransport:
    """The encrypted side of one accepted socket, which does not block.

    recv and send behave like the socket's own: they raise BlockingIOError if the kernel has no bytes, or no room. recv
    returns a whole record, so that no decrypted byte is left here while somebody waits for the socket. All that is not
    received yet is in the kernel, and the socket is readable. After BlockingIOError, call send again with the same
    bytes.
    """

    __slots__ = ("_greeted", "_pending", "_read", "_sock", "_tls", "_write", "ready")

    def __init__(self, sock: socket.SocketType, context: ssl.SSLContext) -> None:
        self._sock = sock
        # This is the object inside SSLSocket, and inside gevent's. SSLSocket would take the socket away from its owner.
        # SSLObject, which takes and gives bytes, costs 5 us more a request, for buffers and calls.
        self._tls: Any = context._wrap_socket(sock, server_side=True)  # type: ignore[attr-defined]
        self._read, self._write, self._pending = self._tls.read, self._tls.write, self._tls.pending
        self._greeted = False
        self.ready = False
        """Whether the handshake is complete."""

    def recv(self, room: int) -> bytes:
        """Return decrypted bytes; b"" at the end of the stream. Raises BlockingIOError, PlainClientError, TlsError.

        At most one record is received. It is returned whole, even if it is longer than `room`.
        """
        try:
            if not self.ready and not self._shake_hands():
                return b""
            data: bytes = self._read(room if room < RECORD_BYTES else RECORD_BYTES)
            if len(data) == room and (left := self._pending()):
                data += self._read(left)
        except _MUST_WAIT:
            raise BlockingIOError from None
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            return b""  # SSLEOFError: the client closed the connection without notice
        except ssl.SSLError as error:
            raise TlsError(f"TLS: {error.reason or error}") from None
        return data

    def _shake_hands(self) -> bool:
        """Continue the handshake, or raise; returns False if the client left before its first byte."""
        if not self._greeted:
            first = self._sock.recv(1, socket.MSG_PEEK)
            if not first:
                return False
            if first[0] != HELLO:
                raise PlainClientError
            self._greeted = True
        self._tls.do_handshake()
        self.ready = True
        return True

    def send(self, data: bytes | memoryview) -> int:
        """Encrypt and send; return how many plain bytes were sent. Raises BlockingIOError, OSError."""
        try:
            sent: int = self._write(data[:CHUNK_BYTES])
        except _MUST_WAIT:
            raise BlockingIOError from None
        except ssl.SSLError as error:
            raise TlsError(f"TLS: {error.reason or error}") from None
        return sent

    def close(self) -> None:
        """Tell the client that no more data comes. The owner of the socket closes it."""
        try:
            if self.ready:
                self._tls.shutdown()
        except OSError:
            pass  # the client has not closed its side yet, and does not have to


def tls(context: ssl.SSLContext) -> MakeTransport:
    """Return a function that makes transports with TLS (rule 13)."""

    def make(sock: socket.SocketType) -> Transport:
        one = TlsTransport(sock, context)
        return Transport(one.recv, one.send, lambda: one.ready, one.close, RECORD_BYTES)

    return make


def server_context(cert: Path, key: Path, client_ca: Path | None = None) -> ssl.SSLContext:
    """Return TLS 1.2 and 1.3 with the library's own defaults. Raises OSError and ssl.SSLError.

    With client_ca every client must show a certificate that it signed.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # a handshake costs as much as 100 requests, and one is enough
    # A connection may end without a TLS close: most clients do so, and so does this server when it stops. Without this
    # option OpenSSL answers with a fatal alert, and a client that reads the alert together with replies loses the
    # replies.
    context.options |= getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)  # OpenSSL 1.1 does not need it
    load_key(context, cert, key)
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
