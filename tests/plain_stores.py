"""Stores for tests of sessions: one without a table, one that stops early, one that fails."""

from kvss_gevent.stores.base import Batch, Command, ReplyTable, StoreError
from kvss_gevent.stores.memory import MemoryStore


class BatchStore:
    """A memory store that hides its table, so that a session has to use apply; it remembers the batches."""

    blocks = False
    run = put = None

    def __init__(self, at_most: int = 1_000_000) -> None:
        self.inner = MemoryStore()
        self.replies = ReplyTable()
        self.batches: list[list[Command]] = []
        self.at_most = at_most

    def apply(self, batch: Batch, limit_bytes: int) -> list[bytes]:
        """Run at most `at_most` commands."""
        self.batches.append(list(batch))
        return self.inner.apply(batch[: self.at_most], limit_bytes)

    def count(self) -> int:
        """Return the number of keys."""
        return self.inner.count()

    def close(self) -> None:
        """Do nothing."""


class FailingStore(BatchStore):
    """Raises `fault` for every batch while it is set."""

    fault: Exception | None = StoreError("the disk is full")

    def apply(self, batch: Batch, limit_bytes: int) -> list[bytes]:
        """Fail, or not."""
        if self.fault:
            raise self.fault
        return super().apply(batch, limit_bytes)


class FailingMemoryStore(MemoryStore):
    """A store with a table whose own code is broken."""

    def _put(self, request: bytes, reply: bytes) -> bytes:
        """Break."""
        raise ZeroDivisionError("planted")

    def _run(self, verb: int, key: bytes, value: bytes) -> bytes:
        """Break."""
        raise ZeroDivisionError("planted")
