"""Transports: how bytes get to a client and back. The loop of a connection uses two functions of them.

A new kind is one more function here that makes a Transport of an accepted socket; the loop never asks which it is.
"""

import socket
import ssl
from collections.abc import Callable
from typing import Any, NamedTuple

from kvss_gevent.server.security.tls import RECORD_BYTES, TlsTransport

LARGEST_RECV_BYTES = 64 << 10


class Transport(NamedTuple):
    """The functions of one connection's transport; both raise BlockingIOError where nothing can be done now."""

    recv: Callable[[int], bytes]
    """Receives about so many bytes; b"" at the end. The rest stays in the socket, which then stays readable."""
    send: Callable[[Any], int]
    """Sends bytes; returns how many were taken."""
    is_ready: Callable[[], bool]
    """Tells whether the first request can come. False during a handshake."""
    finish: Callable[[], object]
    """Ends the transport's own protocol before the socket is closed."""
    largest_bytes: int
    """The most that recv returns at a time."""


MakeTransport = Callable[[socket.SocketType], Transport]


def plain(sock: socket.SocketType) -> Transport:
    """Return the transport of a plain socket: the socket's own functions."""
    return Transport(sock.recv, sock.send, _yes, _nothing, LARGEST_RECV_BYTES)


def tls(context: ssl.SSLContext) -> MakeTransport:
    """Return a function that makes transports with TLS (rule 13)."""

    def make(sock: socket.SocketType) -> Transport:
        one = TlsTransport(sock, context)
        return Transport(one.recv, one.send, lambda: one.ready, one.close, RECORD_BYTES)

    return make


def _yes() -> bool:
    return True


def _nothing() -> None:
    pass
