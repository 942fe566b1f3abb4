"""TLS as a transport: the same two functions as a plain socket's, recv and send (rule 13).

OpenSSL never sees the socket: it takes and gives bytes through two buffers, and all connections of a server share
these. Each call leaves both empty. So no byte waits there, decrypted or not, while somebody waits for the socket, and
a quiet connection has no buffer at all. A packet takes one recv and one send; OpenSSL on the socket would receive the
head of a record and then the rest.
"""

import socket
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Any

from kvss_gevent.server.transport import MakeTransport, PlainClientError, TlsError, Transport
from kvss_gevent.settings.named_files import load_key

CHUNK_BYTES = 64 << 10
"""Plain bytes that are encrypted at a time. A client that takes nothing leaves at most so many encrypted ones here."""
RECORD_BYTES = 16 << 10
"""The most plain bytes that a record can have."""
OVERHEAD_BYTES = 29
"""What a record has beside its plain bytes: 22 in TLS 1.3, 29 in most of TLS 1.2."""
HEAD_BYTES = 5
"""Before each record, unencrypted: its type, the version, and in the last two bytes the length of what follows."""
HELLO = 0x16
"""The first byte that a TLS client sends: the record type of a handshake."""


class TlsTransport:
    """The encrypted side of one accepted socket, which does not block.

    recv and send behave like the socket's own: they raise BlockingIOError if the kernel has no bytes, or no room. What
    is received and not returned is a part of one record, and its rest makes the socket readable. After
    BlockingIOError, call send again with the same bytes: some of them may be encrypted, and wait here for the kernel.

    incoming and outgoing are empty before each call and after it. Only transports of the same thread may share them.
    """

    __slots__ = (
        "_begun",
        "_encrypted",
        "_greeted",
        "_incoming",
        "_missing",
        "_outgoing",
        "_read",
        "_receive",
        "_send",
        "_sock",
        "_tls",
        "_unsent",
        "_write",
        "ready",
    )

    def __init__(
        self, sock: socket.SocketType, context: ssl.SSLContext, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO
    ) -> None:
        self._sock = sock
        self._incoming, self._outgoing = incoming, outgoing
        # This is the object inside SSLObject, whose methods would each cost one more call.
        self._tls: Any = context._wrap_bio(incoming, outgoing, server_side=True)  # type: ignore[attr-defined]
        self._read, self._write = self._tls.read, self._tls.write
        self._receive, self._send = sock.recv, sock.send
        self._unsent = b""
        """Encrypted bytes that the kernel has not taken. They go before all others."""
        self._encrypted = 0
        """The plain bytes of the last send that are in _unsent. That send is still to be answered."""
        self._begun: bytearray | None = None
        """The head of the last record, or the part of it that has come, if something is not whole; see _follow. It is
        another object for each record.
        """
        self._missing = 0
        """How many bytes of the head in _begun are to come, or behind it if it is whole."""
        self._greeted = False
        self.ready = False
        """Whether the handshake is complete."""

    def recv(self, room: int) -> bytes:
        """Return decrypted bytes; b"" at the end of the stream. Raises BlockingIOError, PlainClientError, TlsError.

        Not much more than `room` is received, but a record is returned whole.
        """
        received = self._receive(room + OVERHEAD_BYTES if self.ready else RECORD_BYTES)
        if not received:
            return b""
        incoming = self._incoming
        try:
            incoming.write(received)
            if not self.ready:
                self._shake_hands(received[0])
            size = room if room < RECORD_BYTES else RECORD_BYTES
            data: bytes = self._read(size)
            if incoming.pending or len(data) == size or self._begun:
                data = self._read_on(data, received)
        except ssl.SSLWantReadError:
            self._follow(received)
            raise BlockingIOError from None
        except BaseException as error:
            incoming.read()  # not for the next connection
            if isinstance(error, ssl.SSLError):
                raise TlsError(f"TLS: {error.reason or error}") from None
            raise
        finally:
            if self._outgoing.pending:
                self._answer()
        return data

    def _shake_hands(self, first: int) -> None:
        """Continue the handshake, or raise. first: a byte, which tells a plain client if it is the client's first."""
        if not self._greeted and first != HELLO:
            raise PlainClientError
        self._greeted = True
        self._tls.do_handshake()
        self.ready = True

    def _read_on(self, data: bytes, received: bytes) -> bytes:
        """Return data with what is left of its record, and with the records that were received with it."""
        parts = [data]
        try:
            while self._tls.pending() or self._incoming.pending:
                part = self._read(RECORD_BYTES)
                if not part:
                    # The client's end came with its last words, and the socket may stay silent. Now it is readable.
                    with suppress(OSError):
                        self._sock.shutdown(socket.SHUT_RD)
                    self._incoming.read()
                    break
                parts.append(part)
            self._begun, self._missing = None, 0
        except ssl.SSLWantReadError:
            self._follow(received)
        return b"".join(parts)

    def _follow(self, received: bytes) -> None:
        """Find out whether the last record is whole, and the message of a handshake in it. OpenSSL does not tell.

        It need not be called where all records are whole.
        """
        head, at = self._begun or bytearray(HEAD_BYTES), self._missing
        if len(head) < HEAD_BYTES:
            head += received[:at]
            at += _body_bytes(head)
        while at < len(received):
            head = bytearray(received[at : at + HEAD_BYTES])
            at += HEAD_BYTES + _body_bytes(head)
        self._missing = at - len(received)
        self._begun = head if self._missing or self._is_in_message() else None

    def _is_in_message(self) -> bool:
        """Tell whether OpenSSL has a part of a message with new keys or the like. It keeps 45 KiB for it."""
        if self.ready:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                return True
        return False

    def partial(self) -> bytearray | None:
        """Return what stands for a record or message that is not whole; see Transport."""
        return self._begun

    def _answer(self) -> None:
        """Send what OpenSSL says on its own: its part of a handshake, alerts, new keys. Raises TlsError."""
        self._unsent += self._outgoing.read()
        if not self._encrypted:
            with suppress(OSError):  # if the client is gone, the next recv says so
                self._push()
        if len(self._unsent) > 2 * CHUNK_BYTES:
            raise TlsError("TLS: it asks for new keys, and takes no answer")

    def send(self, data: bytes | memoryview) -> int:
        """Encrypt and send; return how many plain bytes were sent. Raises BlockingIOError, OSError."""
        if not self._unsent:
            try:
                self._encrypted = self._write(data if len(data) <= CHUNK_BYTES else data[:CHUNK_BYTES])
            except ssl.SSLError as error:
                raise TlsError(f"TLS: {error.reason or error}") from None
            finally:
                self._unsent = self._outgoing.read()
        self._push()
        sent, self._encrypted = self._encrypted, 0
        return sent

    def _push(self) -> None:
        """Send encrypted bytes. Raises OSError; BlockingIOError if some are left."""
        unsent = self._unsent
        sent = self._send(unsent)
        if sent != len(unsent):
            self._unsent = unsent[sent:]
            raise BlockingIOError
        self._unsent = b""

    def close(self) -> None:
        """Tell the client that no more data comes. The owner of the socket closes it."""
        with suppress(OSError):  # the client has not closed its side yet, and does not have to
            self._tls.shutdown()
        self._unsent += self._outgoing.read()
        if self._unsent:
            with suppress(OSError):
                self._push()


def _body_bytes(head: bytearray) -> int:
    """Return the length of what follows a head; 0 if that has not come."""
    return head[3] << 8 | head[4] if len(head) == HEAD_BYTES else 0


def tls(context: ssl.SSLContext) -> MakeTransport:
    """Return a function that makes transports with TLS (rule 13) for the sockets of one thread."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()

    def make(sock: socket.SocketType) -> Transport:
        one = TlsTransport(sock, context, incoming, outgoing)
        return Transport(one.recv, one.send, lambda: one.ready, one.partial, one.close)

    return make


def server_context(cert: Path, key: Path, client_ca: Path | None = None) -> ssl.SSLContext:
    """Return TLS 1.2 and 1.3 with the library's own defaults. Raises OSError and ssl.SSLError.

    With client_ca every client must show a certificate that it signed.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # a handshake costs as much as 100 requests, and one is enough
    load_key(context, cert, key)
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
