"""What all clients together hold in memory: half lines that came in, and replies that nobody takes.

One client has bounds of its own; a thousand of them need one in common. It is counted where it grows: a buffer that
arrived full, and replies that the kernel did not take. Past the bound the largest holder is cut off, then the next.
"""

import logging
import os
import time
from collections.abc import Callable

from kvss_gevent.server.connection import Connection

logger = logging.getLogger("kvss")

LEAST_BYTES = 64 << 20
SHARE = 4
"""Of the machine's memory all clients together may hold this part, unless the settings say otherwise."""
LOG_INTERVAL_S = 10.0


def default_bound() -> int:
    """Return a quarter of the machine's memory, and at least LEAST_BYTES."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return LEAST_BYTES  # not a POSIX system
    return max(total // SHARE, LEAST_BYTES)


class ClientMemory:
    """Counts what clients hold; read_bound returns the bound in bytes, which may change."""

    def __init__(self, read_bound: Callable[[], int]) -> None:
        self._read_bound = read_bound
        self._held: dict[Connection, int] = {}
        self._total = 0
        self._cut = 0
        self._logged_s = float("-inf")

    @property
    def total_bytes(self) -> int:
        """The sum over all clients, as far as it is counted."""
        return self._total

    def note(self, connection: Connection, held_bytes: int) -> None:
        """Note what one client holds now; cuts off the largest holders while all hold too much."""
        self._total += held_bytes - self._held.pop(connection, 0)
        if held_bytes:
            self._held[connection] = held_bytes
        while self._held and self._total > self._read_bound():
            largest = max(self._held, key=self._held.__getitem__)
            self._total -= self._held.pop(largest)
            largest.end("all clients together held too much memory, and this one the most", reset=True)
            self._say()

    def forget(self, connection: Connection) -> None:
        """Forget a client that is gone."""
        self._total -= self._held.pop(connection, 0)

    def _say(self) -> None:
        self._cut += 1
        now_s = time.monotonic()
        if now_s - self._logged_s >= LOG_INTERVAL_S:
            self._logged_s = now_s
            logger.warning(
                "disconnected %d client(s): all clients together used more than --max-client-memory, %d bytes",
                self._cut,
                self._read_bound(),
            )
            self._cut = 0
