"""Keeps the memory map of the data file in its place while somebody reads or writes in it.

Another server with a larger --max-disk may let the file grow past our map. Then every new transaction fails here until
the map is made larger, which moves it. A transaction that is open at that moment would crash the process.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

WAIT_S = 1.0
"""The longest wait for a lock. Readers may be on the event loop, where all clients of the server wait with them."""


class MapLock:
    """Two locks. Using the map takes one of them, and moving the map takes both.

    After one wait was too long, further waits are short until the holder is done. So a server with many clients waits
    WAIT_S once, and not once for each client.
    """

    def __init__(self) -> None:
        self.reading = threading.Lock()
        self.writing = threading.Lock()
        self._moving_until_s = float("inf")
        """While the map is moved: when readers stop waiting for it. Otherwise infinite."""
        self._writer_hangs = False

    @contextmanager
    def to_read(self) -> Iterator[None]:
        """Hold the lock of readers. Raises TimeoutError."""
        left_s = min(self._moving_until_s - time.monotonic(), WAIT_S)
        if not self.reading.acquire(timeout=max(left_s, 0)):
            raise TimeoutError(f"it has been closed for more than {WAIT_S:g} s, to be opened again")
        try:
            yield
        finally:
            self.reading.release()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold both locks. Raises TimeoutError."""
        if not self.writing.acquire(timeout=0 if self._writer_hangs else WAIT_S):
            self._writer_hangs = True
            raise TimeoutError(f"a transaction has not ended for {WAIT_S:g} s")
        self._writer_hangs = False
        try:
            with self.to_read():
                self._moving_until_s = time.monotonic() + WAIT_S
                try:
                    yield
                finally:
                    self._moving_until_s = float("inf")
        finally:
            self.writing.release()

    def follow(self, environment: Any) -> None:
        """Make the map as large as the file's other servers have it. Raises TimeoutError and lmdb.Error."""
        with self.alone():
            environment.set_mapsize(0)
