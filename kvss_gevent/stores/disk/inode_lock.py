"""Two locks that tie a data file to its lock file, so that no server opens one with another.

LMDB keeps writers apart by the lock file beside the data file, which belongs to a name. One data file may have two lock
files: by a hard link, or where somebody removed a lock file as stale. Two servers then write the same pages.
So each server locks one byte of the data file, whose number is the inode of the lock file, and one byte of the lock
file, whose number is the inode of the data file. Servers that share a file rightly lock the same two bytes, shared. A
lock on any other byte belongs to a server with another pair of files. The kernel drops the locks when a server dies.
"""

import fcntl
import os
import struct
from pathlib import Path

from kvss_gevent.stores.base import CannotOpen

_FLOCK = struct.Struct("hhqqi4x")
"""struct flock of 64-bit Linux: type, whence, start, length, process. Length 0 reaches to the end."""
_BASE = 1 << 61
"""Above the bytes that LMDB locks in its lock file, whose numbers are those of processes."""


class InodeLock:
    """Holds both locks from its making until close.

    Raises CannotOpen where another server has another pair of files, OSError where one cannot be opened.
    """

    def __init__(self, data: Path, lock: Path, *, readonly: bool = False) -> None:
        self._descriptors: list[int] = []
        flags = os.O_RDONLY if readonly else os.O_RDWR | os.O_CREAT
        try:
            self.data, beside = self._open(data, flags), self._open(lock, flags)
            bytes_ = [_BASE + os.fstat(descriptor).st_ino % _BASE for descriptor in (beside, self.data)]
            # Both lock first and look then: of two servers that start at once at least one sees the other.
            for descriptor, byte in zip((self.data, beside), bytes_, strict=True):
                fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, byte, 1, 0))
            if _is_locked_beside(self.data, bytes_[0]):
                raise CannotOpen(
                    f"another server has {data} open under another name, or its lock file was removed",
                    "Stop that server first, and give every server the same path.",
                )
            if _is_locked_beside(beside, bytes_[1]):
                raise CannotOpen(
                    f"{data} was replaced while another server has the old file open", "Stop that server first."
                )
        except BaseException:
            self.close()
            raise

    def _open(self, path: Path, flags: int) -> int:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
        self._descriptors.append(descriptor)
        return descriptor

    def close(self) -> None:
        """Release both locks. LMDB must be closed before: to close the lock file drops LMDB's own locks on it, too."""
        while self._descriptors:
            os.close(self._descriptors.pop())


def _is_locked_beside(descriptor: int, byte: int) -> bool:
    """Tell whether another server holds a lock on a byte of this kind that is not this one."""
    for start, length in ((_BASE, byte - _BASE), (byte + 1, 0)):
        if start != byte:
            found = fcntl.fcntl(
                descriptor, fcntl.F_OFD_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
            )
            if _FLOCK.unpack(found)[0] != fcntl.F_UNLCK:
                return True
    return False
