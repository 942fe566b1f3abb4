"""Runs the store on Valkey or Redis on the greenlets of one hub: the client library on gevent's sockets, no threads.

With a thread for each node, threads and hub fight over the interpreter's lock at every send and recv: measured with 64
clients, half the requests a second for twice the CPU. Nothing is patched; only these connections are gevent's.
"""

from collections.abc import Callable
from typing import Any

import gevent
import gevent.event
import gevent.socket
from valkey.connection import Connection

from kvss_gevent.stores.link import Address, Link, settings
from kvss_gevent.stores.runtime import Runner, Signal


class Greenlets:
    """The Runtime of greenlets, see stores/runtime.py."""

    def spawn(self, function: Callable[[], None], name: str) -> Runner:  # noqa: ARG002 - greenlets need no name
        """Start a greenlet."""
        runner: Runner = gevent.spawn(function)
        return runner

    def signal(self) -> Signal:
        """Return an event."""
        signal: Signal = gevent.event.Event()
        return signal

    def connect_to(self, address: Address, timeout_s: float, db: int = 0) -> Link:
        """Return a connection, not yet open, that lets other greenlets run while it waits."""
        link: Link = GreenConnection(**settings(address, timeout_s, db))  # type: ignore[no-untyped-call]
        return link


class GreenConnection(Connection):
    """The library's connection on a socket of gevent."""

    def _connect(self) -> Any:
        sock = gevent.socket.create_connection((self.host, self.port), self.socket_connect_timeout)
        sock.setsockopt(gevent.socket.IPPROTO_TCP, gevent.socket.TCP_NODELAY, 1)
        sock.settimeout(self.socket_timeout)
        return sock
