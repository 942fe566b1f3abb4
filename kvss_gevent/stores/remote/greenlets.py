"""Runs the store on Valkey or Redis on the greenlets of one hub: the client library on gevent's sockets, no threads.

With a thread for each node, threads and hub compete for the interpreter's lock at every send and recv. Measured with 64
clients: half the requests a second for twice the CPU. Nothing is patched; only these connections are gevent's.
"""

import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Any

import gevent
import gevent.event
import gevent.socket
from gevent.hub import get_hub
from greenlet import getcurrent

from kvss_gevent.stores.remote.access import Access
from kvss_gevent.stores.remote.node_connection import Address, Link, PlainConnection, settings
from kvss_gevent.stores.remote.runtimes import Runner, Signal

NOT_YET = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
"""What a non-blocking socket raises if it has to wait, with TLS and without."""


class Greenlets:
    """Runs and connects on greenlets; see Runtime."""

    def spawn(self, function: Callable[[], None], name: str) -> Runner:  # noqa: ARG002 - greenlets need no name
        """Start a greenlet."""
        runner: Runner = gevent.spawn(function)
        return runner

    def signal(self) -> Signal:
        """Return an event."""
        signal: Signal = gevent.event.Event()
        return signal

    def connect_to(self, address: Address, timeout_s: float, access: Access) -> Link:
        """Return a connection, not yet open, that lets other greenlets run while it waits."""
        link: Link = GreenConnection(**settings(address, timeout_s, access))
        return link


class GreenConnection(PlainConnection):
    """The library's connection on a GreenSocket."""

    def _connect(self) -> Any:
        sock = gevent.socket.create_connection((self.host, self.port), self.socket_connect_timeout)
        raw = socket.socket(fileno=sock.detach())
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        raw.setblocking(False)
        if not self.tls:
            return GreenSocket(raw, self.socket_timeout or 0.0)
        encrypted = self.tls.wrap_socket(raw, server_hostname=self.host, do_handshake_on_connect=False)
        green = GreenSocket(encrypted, self.socket_timeout or 0.0)
        try:
            with gevent.Timeout(self.socket_connect_timeout, TimeoutError("the TLS handshake took too long")):
                green.shake_hands(encrypted)
        except BaseException:
            green.close()
            raise
        return green


class GreenSocket:
    """The part of a socket that the library uses. It first waits, then reads, at half the cost of gevent's socket.

    gevent's own socket first tries to read a reply that cannot be there yet, then makes a Waiter and a Timeout. The
    socket may have TLS: a record has at most 16 KiB and the library reads 64 KiB, so no reply stays in the TLS object.
    """

    def __init__(self, sock: socket.socket, timeout_s: float) -> None:
        hub = get_hub()
        self._sock = sock
        self.send = sock.send
        self._timeout_s = timeout_s
        self._loop = hub.loop
        self._to_hub = hub.switch
        self._readable = self._loop.io(sock.fileno(), 1)

    def settimeout(self, timeout_s: float) -> None:
        """Set the longest wait; with 0 there is no wait."""
        self._timeout_s = timeout_s

    def recv_into(self, buffer: bytearray) -> int:
        """Read what is there. Raises TimeoutError, or BlockingIOError where no waiting is allowed."""
        while self._timeout_s:
            self._wait(self._readable)
            with contextlib.suppress(*NOT_YET):
                return self._sock.recv_into(buffer)
        return self._sock.recv_into(buffer)

    def recv(self, size: int) -> bytes:
        """Read for the parser that is written in Python."""
        buffer = bytearray(size)
        return bytes(buffer[: self.recv_into(buffer)])

    def sendall(self, data: bytes) -> None:
        """Send all of it. Raises TimeoutError when nothing can be sent for long."""
        view = memoryview(data)
        writable = self._loop.io(self._sock.fileno(), 2)
        try:
            while view:
                with contextlib.suppress(*NOT_YET):
                    view = view[self._sock.send(view) :]
                    continue
                self._wait(writable)
        finally:
            writable.close()

    def shake_hands(self, encrypted: ssl.SSLSocket) -> None:
        """Do the handshake of TLS on this socket. Raises OSError."""
        while True:
            try:
                encrypted.do_handshake()
            except ssl.SSLWantReadError:
                self._wait(self._readable)
            else:
                return

    def _wait(self, watcher: Any) -> None:
        switch = getcurrent().switch
        timer = self._loop.timer(self._timeout_s)
        watcher.start(switch, True)
        timer.start(switch, False)
        try:
            ready = self._to_hub()
        finally:
            watcher.stop()
            timer.close()
        if not ready:
            raise TimeoutError("timed out")

    def shutdown(self, how: int) -> None:
        """Shut the connection down."""
        self._sock.shutdown(how)

    def close(self) -> None:
        """Close it, the watcher first."""
        self._readable.close()
        self._sock.close()
