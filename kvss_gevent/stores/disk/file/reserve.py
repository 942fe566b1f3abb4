"""Room that is kept for deleting: on a full disk LMDB needs new pages for a DEL before any page becomes free.

The room is a file beside the store, `PATH-reserve`. It is given up when a DEL finds the disk full, and taken again once
the disk has room.
"""

import os
from pathlib import Path

RESERVE_BYTES = 256 << 10
"""Some 60 pages: a DEL takes one for each level of the tree, and some for the list of free pages."""
ROOM_BYTES = 3 * RESERVE_BYTES
"""A disk with less free room counts as full: after taking the reserve, a write would find too little."""


class Reserve:
    """The reserve of the store at path; a new object does not hold it."""

    def __init__(self, path: Path) -> None:
        self._file = Path(f"{path}-reserve")

    def hold(self) -> bool:
        """Take the room; return whether the disk had enough."""
        try:
            if self._file.exists() and self._file.stat().st_blocks * 512 >= RESERVE_BYTES:
                return True
            if is_full(self._file.parent):
                return False
            descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
            finally:
                os.close(descriptor)
        except OSError:
            return False
        return True

    def release(self) -> bool:
        """Give the room up; return whether there was any."""
        try:
            self._file.unlink()
        except OSError:
            return False
        return True


def is_full(directory: Path) -> bool:
    """Tell whether the disk of a directory has too little room to take the reserve from it."""
    disk = os.statvfs(directory)
    return disk.f_bavail * disk.f_frsize < ROOM_BYTES
