"""Columns of numbers in memory that the processes of a run on one machine share, with one entry for each key.

Each process writes the entries of its own keys and reads all entries. A write is one aligned store of 8 bytes, so that
no reader sees a half of it.
"""

import mmap
import os
from pathlib import Path

_DIRECTORY = Path("/dev/shm")
_WORD = 8
_GROWTH = 1_000_000
"""Additional entries for inserted keys; memory is used only for those that are written."""


class SharedColumns:
    """Two columns, `floor` and `deleted`, and which processes use them."""

    def __init__(self, token: str, count: int, worker: int, workers: int) -> None:
        """Open the columns that a token names; they begin with zeros. Raises OSError if there is no shared memory."""
        self._path = _DIRECTORY / f"kvss-load-{token}"
        length = count + _GROWTH
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        fd = os.open(self._path, flags, 0o600)
        try:
            os.ftruncate(fd, (workers + 2 * length) * _WORD)
            whole = memoryview(mmap.mmap(fd, (workers + 2 * length) * _WORD)).cast("q")
        finally:
            os.close(fd)
        self.present = whole[:workers]
        """1 for every process on this machine; keys of other processes have no entries."""
        self.floor = whole[workers : workers + length]
        self.deleted = whole[workers + length :]
        self.present[worker] = 1
        if all(self.present):
            self.forget_name()

    def forget_name(self) -> None:
        """Remove the name, so that the memory is freed when the last process ends. A second call does nothing."""
        self._path.unlink(missing_ok=True)
