"""What the processes of a run on one machine know together: columns of numbers in shared memory, one entry for a key.

Each process writes the entries of its own keys and reads all. A write is one aligned store of 8 bytes, which no reader
sees by halves.
"""

import mmap
import os
from pathlib import Path

_DIRECTORY = Path("/dev/shm")
_WORD = 8
_GROWTH = 1_000_000
"""Entries beyond the first keys, for inserted ones; memory is taken only where it is touched."""


class SharedColumns:
    """Two columns, `floor` and `deleted`, and who is there."""

    def __init__(self, token: str, count: int, worker: int, workers: int) -> None:
        """Join the columns that a token names, all zero at first. Raises OSError where there is no shared memory."""
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
        """1 for every process that is on this machine; the others' entries say nothing."""
        self.floor = whole[workers : workers + length]
        self.deleted = whole[workers + length :]
        self.present[worker] = 1
        if all(self.present):
            self.forget_name()

    def forget_name(self) -> None:
        """Remove the name, so that nothing is left when the last process ends. A second call does nothing."""
        self._path.unlink(missing_ok=True)
