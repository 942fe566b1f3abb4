"""What the store on Valkey or Redis runs on: threads with blocking sockets here, greenlets in greenlets.py."""

import threading
from collections.abc import Callable
from typing import Any, Protocol

from kvss_gevent.stores.remote.access import Access
from kvss_gevent.stores.remote.node_connection import Address, Link, connect_to


class Signal(Protocol):
    """Something to wait for, like threading.Event."""

    def set(self) -> None: ...
    def clear(self) -> None: ...
    def is_set(self) -> bool: ...
    def wait(self, timeout: float | None = None) -> Any: ...


class Runner(Protocol):
    """Something that runs concurrently, such as a thread."""

    def join(self, timeout: float | None = None) -> Any: ...


class Runtime(Protocol):
    """How to run, to wait and to connect."""

    def spawn(self, function: Callable[[], None], name: str) -> Runner: ...
    def signal(self) -> Signal: ...
    def connect_to(self, address: Address, timeout_s: float, access: Access) -> Link: ...


class Threads:
    """A thread for each node, for callers that are threads themselves."""

    def spawn(self, function: Callable[[], None], name: str) -> Runner:
        """Start a thread that does not keep the process alive."""
        thread = threading.Thread(target=function, name=name, daemon=True)
        thread.start()
        return thread

    def signal(self) -> Signal:
        """Return an event."""
        return threading.Event()

    def connect_to(self, address: Address, timeout_s: float, access: Access) -> Link:
        """Return a connection, not yet open."""
        return connect_to(address, timeout_s, access)
