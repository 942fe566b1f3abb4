"""Makes sure that all workers of a server, also those that start later, have the same data file open.

While a file is served, somebody may move it away with its lock file and put another file in its place. A worker that
starts afterwards would open the other file, and the workers would answer from two stores.
"""

import contextlib
import mmap
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

from kvss_gevent.stores.base import CannotOpen, Store

_FIRST = struct.Struct("=QQ4096s")
"""Device, inode and path; no path is longer."""


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
        self._first = mmap.mmap(-1, _FIRST.size)
        # A descriptor of the file waits in this socket. So the file stays open, and its inode is not used again.
        self._held, self._hold = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)

    def opened(self, open_store: Callable[[], Store]) -> Store:
        """Return the store that a worker opens. Raises CannotOpen if it is another file's, or the file was emptied."""
        self._refuse_emptied()
        store = open_store()
        if not isinstance(store, FileStore):
            return store
        *first, _ = _FIRST.unpack(self._first[:])
        if first == [0, 0]:
            self._first[:] = _FIRST.pack(*store.identity, os.fsencode(store.path))
            with contextlib.suppress(OSError):  # if the path now leads to another file, nothing needs to be held
                descriptor = os.open(store.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                try:
                    socket.send_fds(self._hold, [b"."], [descriptor])
                finally:
                    os.close(descriptor)
        elif list(store.identity) != first:
            store.close()
            raise CannotOpen(
                f"{store.path} is not the file that this server has served since its start",
                "Put that one back, or start the server again.",
            )
        return store

    def _refuse_emptied(self) -> None:
        name = os.fsdecode(_FIRST.unpack(self._first[:])[2].rstrip(b"\0"))
        with contextlib.suppress(OSError):  # it may be gone
            if name and Path(name).stat().st_size == 0:  # opened, it would get a new store
                raise CannotOpen(
                    f"{name} was cut off at 0 bytes", "Restore it from a copy, and start the server again."
                )
