"""The memory that all clients together hold: lines of which only a part has come, and replies that they do not take.

Each client has bounds of its own, but a thousand clients need a common one. Memory is counted where it grows: when a
receive buffer is full, and when the kernel does not take replies. If all clients together exceed the bound, the one
that holds most is disconnected, then the next. Memory that clients no longer hold is given back to the system, if the C
library can do that.
"""

import ctypes
import logging
import os
import time
from collections.abc import Callable
from typing import Any

import gevent

from kvss_gevent.server.connection import Connection

logger = logging.getLogger("kvss")

LEAST_BYTES = 64 << 20
SHARE = 4
"""The part of the machine's memory that all clients together may hold, if the settings name no bound."""
CUT_OFF = {"interval_s": 10.0}
"""For the log: clients that hold too much get one line in so many seconds."""

WORTH_BYTES = 256 << 10
"""If clients never held more than this, the allocator has little to give back."""
GIVE_BACK_INTERVAL_S = 10.0
"""Giving back 36 MiB takes up to 12 ms. Meanwhile no other thread gets a large block."""

FREE_BYTES = 64 << 20
LARGE_BLOCK_BYTES = 4 << 20
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""From malloc.h of the GNU C library."""


def keep_free_blocks() -> None:
    """Let the C library keep up to FREE_BYTES of what was freed last, for the next large reply. Only glibc can do this.

    Otherwise it gives the pages of each large reply back to the system, and takes new ones for the next: with replies
    of 512 KiB that makes 17 us of CPU a request instead of 7. ClientMemory gives back what is not needed again.
    """
    if os.name == "posix" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        mallopt(M_TRIM_THRESHOLD, FREE_BYTES)
        mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)


def default_bound() -> int:
    """Return a quarter of the machine's memory, and at least LEAST_BYTES."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return LEAST_BYTES  # not a POSIX system
    return max(total // SHARE, LEAST_BYTES)


def _on_a_thread() -> None:
    """Give the free pages of the C library back to the system, on a thread. Only glibc can do this."""
    if os.name == "posix" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        pool: Any = gevent.get_hub().threadpool
        pool.apply(trim, (0,))


class ClientMemory:
    """Counts what clients hold; read_bound returns the bound in bytes, which may change.

    trim gives free memory back to the system. It may let other greenlets run.
    """

    def __init__(self, read_bound: Callable[[], int], trim: Callable[[], object] = _on_a_thread) -> None:
        self._read_bound = read_bound
        self._trim = trim
        self._peak = 0
        self._may_trim_s = 0.0
        self._held: dict[Connection, int] = {}
        self._total = 0

    @property
    def total_bytes(self) -> int:
        """The sum over all clients, as far as it is counted."""
        return self._total

    def note(self, connection: Connection, held_bytes: int) -> None:
        """Note how much one client holds now. Cut off the largest holders while all hold too much."""
        self._total += held_bytes - self._held.pop(connection, 0)
        if held_bytes:
            self._held[connection] = held_bytes
            self._peak = max(self._peak, self._total)
        while self._held and self._total > self._read_bound():
            largest = max(self._held, key=self._held.__getitem__)
            self._total -= self._held.pop(largest)
            largest.end("all clients together held too much memory, and this one the most", reset=True)
            logger.warning(
                "%s disconnected: all clients together used more than --max-client-memory, %d bytes",
                largest,
                self._read_bound(),
                extra=CUT_OFF,
            )

    def forget(self, connection: Connection) -> None:
        """Forget a client that is gone."""
        self._total -= self._held.pop(connection, 0)

    def give_back(self) -> None:
        """Give memory back where clients held much and now hold less than half of it. Call it now and then.

        Large blocks that are freed leave holes between small ones: 33 MiB after 40 clients had sent values of 900 KB.
        The allocator itself gives back only what lies behind the last block.
        """
        now_s = time.monotonic()
        if self._peak >= max(WORTH_BYTES, self._total * 2) and now_s >= self._may_trim_s:
            self._peak = self._total
            self._may_trim_s = now_s + GIVE_BACK_INTERVAL_S
            self._trim()
