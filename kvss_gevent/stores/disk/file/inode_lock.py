"""Two locks that tie a data file to its lock file, so that no server opens one with another.

LMDB keeps writers apart with the lock file beside the data file. The lock file belongs to a name. So one data file can
have two lock files: by a hard link, or if somebody removed a lock file as stale. Then two servers write the same pages.
To prevent this, each server locks one byte of the data file, whose number is the inode of the lock file, and one byte
of the lock file, whose number is the inode of the data file. Servers with the same pair of files lock the same two
bytes, shared. A lock on any other byte belongs to a server with another pair. The kernel drops the locks when a server
dies.
"""

import fcntl
import os
import struct
from pathlib import Path

from kvss_gevent.stores.base import CannotOpen

_FLOCK = struct.Struct("hhqqi4x")
"""struct flock of 64-bit Linux: type, whence, start, length, process. Length 0 reaches to the end."""
_BASE = 1 << 61
"""LMDB locks bytes of its lock file whose numbers are process ids. Ours are above them."""


class InodeLock:
    """Holds both locks until close. Raises OSError, and CannotOpen if another server has another pair of files."""

    def __init__(self, data: Path, lock: Path, *, readonly: bool = False) -> None:
        self._descriptors: list[int] = []
        flags = os.O_RDONLY if readonly else os.O_RDWR | os.O_CREAT
        try:
            self.data, self.beside = self._open(data, flags), self._open(lock, flags)
            bytes_ = [_BASE + os.fstat(descriptor).st_ino % _BASE for descriptor in (self.beside, self.data)]
            self._byte = bytes_[0]
            # A server first locks, then looks. So if two start at once, at least one sees the other.
            for descriptor, byte in zip((self.data, self.beside), bytes_, strict=True):
                fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, byte, 1, 0))
            if _is_locked_beside(self.data, bytes_[0]):
                raise CannotOpen(
                    f"another server has {data} open under another name, or its lock file was removed",
                    "Stop that server first, and give every server the same path.",
                )
            if _is_locked_beside(self.beside, bytes_[1]):
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

    def is_alone(self) -> bool:
        """Tell whether no other server has the data file open; if so, none can open it until close."""
        try:
            fcntl.fcntl(self.data, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, self._byte, 1, 0))
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Release both locks. Close LMDB first: closing the lock file drops LMDB's own locks on it, too."""
        while self._descriptors:
            os.close(self._descriptors.pop())


def _is_locked_beside(descriptor: int, byte: int) -> bool:
    """Tell whether another server holds a lock on another byte of this kind."""
    for start, length in ((_BASE, byte - _BASE), (byte + 1, 0)):
        if start != byte:
            found = fcntl.fcntl(
                descriptor, fcntl.F_OFD_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
            )
            if _FLOCK.unpack(found)[0] != fcntl.F_UNLCK:
                return True
    return False
