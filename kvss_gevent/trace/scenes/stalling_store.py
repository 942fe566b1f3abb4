"""A store that waits where a key says so, over any other store."""

import re
from collections.abc import Callable

from kvss_gevent.stores.base import Batch, ReplyTable, Store

_STALL = re.compile(rb"stall:(\d+):")


class StallingStore:
    """Waits for each key `stall:MS:...` of a batch before it runs the batch.

    wait_s is a function that waits: time.sleep, as a driver that blocks does, or one that lets a loop go on.
    """

    blocks = True
    run = None

    def __init__(self, store: Store, wait_s: Callable[[float], object]) -> None:
        self.replies = ReplyTable()  # every key is looked at
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
