"""How the load tester's bytes get to a server and back. A connection uses two functions, and never asks which they are.

With TLS, OpenSSL works on the socket itself: below the classes of `ssl`, whose methods gevent replaces by ones that
wait.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import gevent
from gevent.socket import wait_read, wait_write

from kvss_gevent.client.authorities import client_context

Ends = tuple[Callable[[int], bytes], Callable[[Any], int]]
"""recv and send. Both behave like those of a socket that does not block, but recv may return more than it is asked for:
what it left in OpenSSL would not make the socket readable.
"""
MakeEnds = Callable[[Any, str, float], Ends]
"""Makes the ends for a connected socket, from it, the server's name and a limit in seconds. Raises OSError."""


def plain(sock: Any, _host: str, _timeout_s: float) -> Ends:
    """Return the socket's own functions."""
    return sock.recv, sock.send


@cache
def tls(ca: str, insecure: bool) -> MakeEnds:
    """Return TLS that trusts as client_context says, always with the same context. Raises ValueError."""
    import ssl  # not before gevent has patched it

    context: Any = client_context(Path(ca) if ca else None, insecure=insecure)
    waits = (ssl.SSLWantReadError, ssl.SSLWantWriteError)

    def ends(sock: Any, host: str, timeout_s: float) -> Ends:
        one = context._wrap_socket(sock, False, server_hostname=host)
        read, pending, write = one.read, one.pending, one.write
        with gevent.Timeout(timeout_s, TimeoutError(f"no answer within {timeout_s:g} s")):
            while True:
                try:
                    one.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    wait_read(sock.fileno())
                except ssl.SSLWantWriteError:
                    wait_write(sock.fileno())

        def recv(room: int) -> bytes:
            try:
                data: bytes = read(room)
                while rest := pending():
                    data += read(rest)
            except waits:
                raise BlockingIOError from None
            except ssl.SSLEOFError:  # the server has closed without the farewell of TLS
                return b""
            return data

        def send(data: Any) -> int:
            try:
                sent: int = write(data)
            except waits:
                raise BlockingIOError from None
            return sent

        return recv, send

    return ends
