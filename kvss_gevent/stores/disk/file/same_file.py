"""Makes sure that all workers of a server, also those that start later, have the same data file open.

While a file is served, somebody may move it away with its lock file and put another file in its place. A worker that
starts afterwards would open the other file, and the workers would answer from two stores.
"""

import contextlib
import mmap
import os
import socket
import struct
from pathlib import Path
from typing import Protocol, runtime_checkable

from kvss_gevent.stores.base import CannotOpen, Store

_IDENTITY = struct.Struct("=QQ")


@runtime_checkable
class FileStore(Store, Protocol):
    """A store that lives in one file; see DiskStore."""

    @property
    def path(self) -> Path:
        """Of the file, without symbolic links."""

    @property
    def identity(self) -> tuple[int, int]:
        """Device and inode of the file that is open."""


class SameFile:
    """Which file the first worker opened. The parent makes this object before it forks."""

    def __init__(self) -> None:
        self._identity = mmap.mmap(-1, _IDENTITY.size)
        # A descriptor of the file waits in this socket. So the file stays open, and its inode is not used again.
        self._held, self._hold = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)

    def refuse_emptied(self, path: Path) -> None:
        """Raise CannotOpen if the file of an earlier worker is empty now: to open it would make a new store in it."""
        with contextlib.suppress(OSError):
            if any(self._identity[:]) and path.stat().st_size == 0:
                raise CannotOpen(
                    f"{path} was cut off at 0 bytes", "Restore it from a copy, and start the server again."
                )

    def checked(self, store: Store) -> Store:
        """Return the store that a worker has opened. Raises CannotOpen if it is another file's."""
        if not isinstance(store, FileStore):
            return store
        first = _IDENTITY.unpack(self._identity[:])
        if first == (0, 0):
            self._identity[:] = _IDENTITY.pack(*store.identity)
            with contextlib.suppress(OSError):  # if the path now leads to another file, nothing needs to be held
                descriptor = os.open(store.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                try:
                    socket.send_fds(self._hold, [b"."], [descriptor])
                finally:
                    os.close(descriptor)
        elif store.identity != first:
            store.close()
            raise CannotOpen(
                f"{store.path} is not the file that this server has served since its start",
                "Put that one back, or start the server again.",
            )
        return store
