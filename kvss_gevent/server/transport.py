"""Transports: how bytes get to a client and back. The loop of a connection uses two functions of them.

A new kind is one more function that makes a Transport of an accepted socket; the loop never asks which it is. That
of TLS is in `security.tls`, so that a server without TLS does not load OpenSSL.
"""

import socket
from collections.abc import Callable
from typing import Any, NamedTuple

LARGEST_RECV_BYTES = 64 << 10
"""The most that recv is asked for."""


class Transport(NamedTuple):
    """The functions of one connection's transport; both raise BlockingIOError where nothing can be done now."""

    recv: Callable[[int], bytes]
    """Receives about so many bytes; b"" at the end. The rest stays in the socket, which then stays readable."""
    send: Callable[[Any], int]
    """Sends bytes; returns how many were taken."""
    is_ready: Callable[[], bool]
    """Tells whether the first request can come. False during a handshake."""
    partial: Callable[[], object | None]
    """Returns what stands for something of the transport's own, such as a record, of which only a part has come. It is
    the same object until the rest comes; None if there is no such thing.
    """
    finish: Callable[[], object]
    """Ends the transport's own protocol before the socket is closed."""


MakeTransport = Callable[[socket.SocketType], Transport]


class PlainClientError(OSError):
    """A client without TLS connected to a port with TLS."""

    def __init__(self) -> None:
        super().__init__("it does not speak TLS, and this port does")
        self.strerror = str(self)


class TlsError(OSError):
    """The handshake failed, or the bytes are not what the other side encrypted."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.strerror = reason


def plain(sock: socket.SocketType) -> Transport:
    """Return the transport of a plain socket: the socket's own functions."""
    return Transport(sock.recv, sock.send, _yes, _nothing, _nothing)


def _yes() -> bool:
    return True


def _nothing() -> None:
    pass
