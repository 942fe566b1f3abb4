"""Keeps the map of the data file in its place while somebody reads or writes in it.

Another server with a larger --max-disk may let the file grow past our map. Then every new transaction fails here until
the map is made larger, which moves it: whoever were inside a transaction at that moment would crash.
"""

import threading
from contextlib import ExitStack
from typing import Any

WAIT_S = 1.0
"""A disk that hangs keeps a writer inside for longer; who reads is told so then."""


class MapLock:
    """Two locks: all that uses the map holds one of them, and what moves the map holds both."""

    def __init__(self) -> None:
        self.reading = threading.Lock()
        self.writing = threading.Lock()

    def alone(self) -> ExitStack:
        """Take both locks until the block ends. Raises TimeoutError."""
        held = ExitStack()
        for lock in (self.writing, self.reading):
            if not lock.acquire(timeout=WAIT_S):
                held.close()
                raise TimeoutError(f"a transaction has not ended for {WAIT_S:g} s")
            held.callback(lock.release)
        return held

    def follow(self, environment: Any) -> None:
        """Make the map as large as the file's other servers have it. Raises TimeoutError and lmdb.Error."""
        with self.alone():
            environment.set_mapsize(0)
