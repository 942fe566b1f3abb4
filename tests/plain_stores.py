"""Stores for tests of sessions: one without a table, one that stops early, one that fails."""

from collections.abc import Sequence

from kvss_gevent.stores.base import Command, LinesDone, Result, StoreError
from kvss_gevent.stores.memory import MemoryStore


class BatchStore:
    """A memory store that hides its table, so that a session has to use apply; it remembers the batches."""

    blocks = False

    def __init__(self, at_most: int = 1_000_000) -> None:
        self.inner = MemoryStore()
        self.batches: list[list[Command]] = []
        self.at_most = at_most

    def apply(self, batch: Sequence[Command], limit_bytes: int) -> list[Result]:
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

    def apply(self, batch: Sequence[Command], limit_bytes: int) -> list[Result]:
        """Fail, or not."""
        if self.fault:
            raise self.fault
        return super().apply(batch, limit_bytes)


class FailingLineStore(BatchStore):
    """It runs lines itself, and raises `fault` for them while it is set; apply does not fail."""

    fault: Exception | None = StoreError("the disk is full")

    def run_lines(self, lines: Sequence[bytes], limit_bytes: int) -> LinesDone:
        """Fail, or leave all lines to apply."""
        if self.fault:
            raise self.fault
        return [], 0, 0


class FailingMemoryStore(MemoryStore):
    """An inline store whose own code is broken."""

    def put(self, key: bytes, value: bytes) -> bool:
        """Break."""
        raise ZeroDivisionError("planted")

    def put_line(self, line: bytes) -> bytes | None:
        """Leave it to put."""
        return None
