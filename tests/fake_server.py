"""A server for tests of clients: a thread for each connection runs a handler, honest or not, on a free port."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from kvss_gevent.protocol.wire import BYE, REPLY, Status, Verb, parse_request

Handler = Callable[["Peer"], None]


@dataclass
class Peer:
    """One accepted connection: the number of it, from 0, and the lines that it has sent."""

    sock: socket.socket
    number: int
    stop: threading.Event
    seen: list[bytes]
    _buffer: bytearray = field(default_factory=bytearray)

    def line(self) -> bytes:
        """Wait for one request line and return it without its line feed; empty at the end."""
        while b"\n" not in self._buffer:
            data = self.sock.recv(1 << 16)
            if not data:
                return b""
            self._buffer += data
        line, _, rest = self._buffer.partition(b"\n")
        self._buffer = rest
        self.seen.append(bytes(line))
        return bytes(line)

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def stall(self) -> None:
        """Wait until the test is over."""
        self.stop.wait(60)


class FakeServer:
    """Listens on 127.0.0.1; port is its port, seen the lines of all connections, accepted and ended their numbers.

    path is that of a Unix socket instead, certificate a file with the certificate and key to speak TLS with.
    """

    def __init__(
        self, handler: Handler, port: int = 0, *, path: str | None = None, certificate: Path | None = None
    ) -> None:
        self.handler = handler
        self.seen: list[bytes] = []
        self.accepted = 0
        self.ended = 0
        self.failures: list[BaseException] = []
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._peers: list[tuple[threading.Thread, socket.socket]] = []
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if certificate else None
        if self._tls and certificate:
            self._tls.load_cert_chain(certificate)
        if path is None:
            self._listener = socket.create_server(("127.0.0.1", port), backlog=64)
            self.port: int = self._listener.getsockname()[1]
        else:
            self._listener = socket.create_server(path, family=socket.AF_UNIX)
            self.port = 0
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def close(self) -> None:
        """Stop listening and end every connection; raises what a handler failed with."""
        self._stop.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        for _, sock in self._peers:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread, _ in self._peers:
            thread.join(10)
            assert not thread.is_alive()
        if self.failures:
            raise self.failures[0]

    def _accept(self) -> None:
        while not self._stop.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            if self.port:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(target=self._run, args=(Peer(sock, self.accepted, self._stop, self.seen),))
            self.accepted += 1
            self._peers.append((thread, sock))
            thread.start()

    def _run(self, peer: Peer) -> None:
        try:
            with peer.sock:
                if self._tls:
                    peer.sock = self._tls.wrap_socket(peer.sock, server_side=True)
                with peer.sock:
                    self.handler(peer)
        except OSError:
            pass  # the client left, or the test is over
        except BaseException as error:
            self.failures.append(error)
        with self._lock:
            self.ended += 1


@contextmanager
def fake_server(
    handler: Handler, port: int = 0, *, path: str | None = None, certificate: Path | None = None
) -> Iterator[FakeServer]:
    server = FakeServer(handler, port, path=path, certificate=certificate)
    try:
        yield server
    finally:
        server.close()


def answering(*replies: bytes) -> Handler:
    """Answer the requests of every connection with these lines, then close."""

    def handle(peer: Peer) -> None:
        for reply in replies:
            if not peer.line():
                return
            peer.send(reply + b"\n")

    return handle


def honest(store: dict[bytes, bytes] | None = None) -> Handler:
    """A small KV/1.0 server over one store."""
    store = {} if store is None else store
    lock = threading.Lock()

    def handle(peer: Peer) -> None:
        while line := peer.line():
            with lock:
                reply = _reply(store, line.removesuffix(b"\r"))
            peer.send(reply + b"\n")
            if reply == BYE:
                return

    return handle


def in_turn(*handlers: Handler) -> Handler:
    """The first handler for the first connection, and so on; the last one for all others."""

    def handle(peer: Peer) -> None:
        handlers[min(peer.number, len(handlers) - 1)](peer)

    return handle


def _reply(store: dict[bytes, bytes], line: bytes) -> bytes:
    try:
        line.decode()
    except UnicodeDecodeError:
        return REPLY[Status.BAD_REQUEST]
    match parse_request(line):
        case (Status() as refusal, _, _):
            return REPLY[refusal]
        case (Verb.GET, key, _):
            value = store.get(key)
            return REPLY[Status.NOT_FOUND] if value is None else b"200 OK " + value
        case (Verb.PUT, key, value):
            return REPLY[_put(store, key, value)]
        case (Verb.DEL, key, _):
            return REPLY[Status.NOT_FOUND if store.pop(key, None) is None else Status.NO_CONTENT]
        case (Verb.STATS, _, _):
            return b"200 OK keys=%d uptime=323s served=7" % len(store)
    return BYE


def _put(store: dict[bytes, bytes], key: bytes, value: bytes) -> Status:
    status = Status.OK if key in store else Status.CREATED
    store[key] = value
    return status
