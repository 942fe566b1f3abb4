"""Servers that say what a test wants, and clients for them."""

import threading

from fake_server import FakeServer, Handler, Peer, answering

from kvss_gevent import KVClient

RIGHT = answering(b"200 OK right")


def sending(data: bytes) -> Handler:
    """Answer one request with these bytes and close."""

    def handle(peer: Peer) -> None:
        peer.line()
        peer.send(data)

    return handle


class Later:
    """Answers one request with `first`, waits until it is told to act, and ends the connection."""

    def __init__(self, act: Handler) -> None:
        self._act = act
        self._go_on, self._acted = threading.Event(), threading.Event()

    def __call__(self, peer: Peer) -> None:
        peer.line()
        peer.send(b"200 OK first\n")
        assert self._go_on.wait(20)
        self._act(peer)
        self._acted.set()

    def happen(self) -> None:
        self._go_on.set()
        assert self._acted.wait(20)


def client(server: FakeServer, timeout_s: float = 20, max_reply_bytes: int = 64 << 20) -> KVClient:
    """Return a client of a fake server."""
    return KVClient("127.0.0.1", server.port, timeout_s=timeout_s, max_reply_bytes=max_reply_bytes)
