"""TLS as a transport: the same two functions as a plain socket's, recv and send, over `ssl.MemoryBIO` (rule 13).

The TLS object never touches the socket. So the loop of a connection stays one, and waits for the socket alone.
"""

import socket
import ssl
from pathlib import Path

CHUNK_BYTES = 64 << 10
"""Plain bytes that are encrypted before the kernel has taken the ones before: what one client can leave unsent."""
HELLO = 0x16
"""The first byte of a TLS client: the record type of a handshake."""


class PlainClientError(OSError):
    """A client without TLS came to a port with TLS."""

    def __init__(self) -> None:
        super().__init__("it does not speak TLS, and this port does")
        self.strerror = str(self)


class TlsError(OSError):
    """The handshake failed, or what came is not what the other side encrypted."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.strerror = reason


class TlsTransport:
    """The encrypted side of one accepted socket, which does not block.

    recv and send behave as the socket's own: they raise BlockingIOError where the kernel has nothing, or no room.
    recv returns all that is decrypted, so that no plain byte is left here while somebody waits for the socket. send
    returns only what the kernel has taken whole; after BlockingIOError it must be called again with the same bytes.
    """

    __slots__ = ("_cipher", "_encrypted", "_greeted", "_incoming", "_outgoing", "_ready", "_sock", "_tls")

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self._sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._greeted = False
        self._ready = False
        self._cipher = b""
        self._encrypted = 0

    @property
    def ready(self) -> bool:
        """Whether the handshake is done."""
        return self._ready

    def recv(self, room: int) -> bytes:
        """Return decrypted bytes; b"" at the end of the stream. Raises BlockingIOError, PlainClientError, TlsError."""
        arrived = self._sock.recv(room)
        if not self._greeted:
            if arrived and arrived[0] != HELLO:
                raise PlainClientError
            self._greeted = True
        if arrived:
            self._incoming.write(arrived)
        else:
            self._incoming.write_eof()
        try:
            if not self._ready:
                self._tls.do_handshake()
                self._ready = True
            data = self._decrypt_all(len(arrived))
        except ssl.SSLWantReadError:
            self._flush()
            raise BlockingIOError from None
        except ssl.SSLError as error:
            if not arrived:
                return b""  # the client closed the connection without a word
            self._flush()  # an alert says what was wrong
            raise TlsError(f"TLS: {error.reason or error}") from None
        if self._outgoing.pending:
            self._flush()
        return data

    def _decrypt_all(self, arrived_bytes: int) -> bytes:
        """Return all whole records; b"" where the client has said that it sends no more. Raises SSLWantReadError.

        Nearly always what arrived is one record, which one read returns: a room of 64 KiB instead would cost 1 us, and
        to read until there is no more an exception, 3 us. A read that does not fill its room leaves nothing behind.
        """
        read, incoming = self._tls.read, self._incoming
        room = arrived_bytes or CHUNK_BYTES
        parts = []
        try:
            while part := read(room):
                parts.append(part)
                if len(part) < room and not incoming.pending:
                    break
            else:
                self._end_reading()  # b"", as long as we have not said so ourselves
        except ssl.SSLWantReadError:
            if not parts:
                raise
        except ssl.SSLZeroReturnError:
            self._end_reading()
        return b"".join(parts) if len(parts) != 1 else parts[0]

    def _end_reading(self) -> None:
        """Have the next recv return the end: the client said so, and the socket itself may never."""
        try:
            self._sock.shutdown(socket.SHUT_RD)
        except OSError:
            pass  # the client is gone

    def send(self, data: bytes | memoryview) -> int:
        """Encrypt and send; return how many plain bytes have gone. Raises BlockingIOError, OSError."""
        if not self._encrypted:
            self._encrypted = self._tls.write(data[:CHUNK_BYTES])
        self._flush(wait=True)
        sent, self._encrypted = self._encrypted, 0
        return sent

    def close(self) -> None:
        """Tell the client that no more will come; the socket is for its owner to close."""
        try:
            if self._ready:
                self._tls.unwrap()
        except (ssl.SSLError, OSError):
            pass  # it has not said so itself yet, and need not
        self._flush()

    def _flush(self, *, wait: bool = False) -> None:
        """Send what is encrypted. Raises OSError, if wait is true, where not all of it could go."""
        if self._outgoing.pending:
            self._cipher += self._outgoing.read()
        while self._cipher:
            try:
                self._cipher = self._cipher[self._sock.send(self._cipher) :]
            except OSError:
                if wait:
                    raise
                return  # what was received counts, also where the client is gone


def server_context(cert: Path, key: Path, client_ca: Path | None = None) -> ssl.SSLContext:
    """Return TLS 1.2 and 1.3 with the library's own defaults. Raises OSError and ssl.SSLError.

    With client_ca every client must show a certificate that it signed.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(cert, key)
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
