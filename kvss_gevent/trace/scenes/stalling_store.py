"""A wrapper of a store that waits for some keys."""

import re
from collections.abc import Callable

from kvss_gevent.stores.base import Batch, ReplyTable, Store

_STALL = re.compile(rb"stall:(\d+):")


class StallingStore:
    """Waits MS milliseconds for each key `stall:MS:...` of a batch, then runs the batch.

    wait_s is the function that waits: time.sleep, like a driver that blocks, or one that lets an event loop go on.
    """

    blocks = True
    run = put = None

    def __init__(self, store: Store, wait_s: Callable[[float], object]) -> None:
        self.replies = ReplyTable()  # empty, so that every request comes to apply
        self._store, self._wait_s = store, wait_s

    def apply(self, batch: Batch, limit_bytes: int) -> list[bytes]:
        """Run commands in order; see Store."""
        for _, key, _ in batch:
            if found := _STALL.match(key):
                self._wait_s(int(found[1]) / 1000)
        return self._store.apply(batch, limit_bytes)

    def count(self) -> int:
        """Return the number of keys stored."""
        return self._store.count()

    def close(self) -> None:
        """Close the store below."""
        self._store.close()
