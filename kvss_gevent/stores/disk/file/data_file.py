"""Opens or creates the LMDB file of the disk store. Refuses files that are foreign, newer or damaged."""

import errno
import logging
import os
import resource
import stat
import struct
from pathlib import Path

import lmdb
from lmdb.verify import VerifyError, verify

from kvss_gevent.stores.base import CannotOpen
from kvss_gevent.stores.disk.file.checkpoint import recover, sync_directory
from kvss_gevent.stores.disk.file.inode_lock import InodeLock
from kvss_gevent.stores.disk.file.write_mutex import WriteMutex

logger = logging.getLogger("kvss")

MARKER_KEY = b" kvss-gevent"
"""Holds the format of the file. No client's key: those have no space."""
FORMAT = 1

MIN_BYTES = 1 << 20
ENGINE = 0
"""LMDB 0.9: its file format is 15 years old, and other programs read it."""

MAX_READERS = 1024
LOCK_BYTES = 80 << 10
"""The size of the lock file: 64 bytes for each reader, and LMDB's own head."""
_MAGIC = 0xBEEFC0DE
_MAGIC_AT = 16


DAMAGE = (lmdb.InvalidError, lmdb.VersionMismatchError, lmdb.CorruptedError, lmdb.PageNotFoundError, VerifyError)


class DataFile:
    """An LMDB file that this process has open: the environment, and the locks that tie it to its lock file.

    The file is mapped at the largest size that it may ever have. If it cannot be written, it is opened read-only, with
    a warning. path is as people wrote it. `real` has no symbolic links, so that every name of the file leads to the
    same lock file. Raises CannotOpen.
    """

    def __init__(self, path: Path, *, synced: bool, max_bytes: int) -> None:
        self.path = path
        if not path.name:
            raise CannotOpen("disk: has no path", "Give one, as in --store disk:data.kv.", usage=True)
        if 0 < max_bytes < MIN_BYTES:
            raise CannotOpen(f"--max-disk {max_bytes} is too small", f"Give {MIN_BYTES} bytes or more.", usage=True)
        try:
            self.real = Path(os.path.realpath(path))
            self._open(synced, max_bytes)
        except (OSError, OverflowError, UnicodeError, lmdb.Error, VerifyError) as error:
            raise explained(path, error) from None
        if self.readonly:
            logger.warning("%s cannot be written: PUT and DEL get 500", path)

    def _open(self, synced: bool, max_bytes: int) -> None:
        real = self.real
        if not real.parent.is_dir():
            raise CannotOpen(f"there is no directory {real.parent}", "Create it, or give another path.")
        _refuse_foreign(self.path, real)
        self.readonly = real.exists() and not os.access(real, os.W_OK)
        lock_file = Path(f"{real}-lock")
        self._lock = None
        self.write_mutex: WriteMutex | None = None
        """None where nothing is written."""
        if not self.readonly or os.access(lock_file, os.R_OK):
            self._lock = InodeLock(real, lock_file, readonly=self.readonly)
        try:
            if not self.readonly:
                recover(real)
                _allocate_lock(lock_file)
            self.environment = self._open_environment(synced, max_bytes)
            try:
                if self._lock and not self.readonly:
                    self.write_mutex = WriteMutex(self._lock.beside)
                _check_whole(self.path, real, self.environment)
                _check_marker(self.path, real, self.environment, self.readonly)
            except BaseException:
                self.environment.close()
                raise
        except BaseException:
            self._unlock()
            raise
        found = real.stat()
        self.identity = _identity(found)
        self.seen_bytes = found.st_size
        """The file was at least this long when it was last looked at."""
        self.descriptor = self._lock.data if self._lock else None
        """The open file, for its size; None where it was opened without a lock, or is closed."""
        self._page_bytes: int = self.environment.stat()["psize"]

    def _open_environment(self, synced: bool, max_bytes: int) -> lmdb.Environment:
        lock = self._lock
        is_new = lock is not None and os.fstat(lock.data).st_size == 0
        try:
            return _open(self.real, synced, max_bytes, self.readonly)
        except lmdb.Error:
            # On a full disk a new file may have got one of its two meta pages.
            if lock and is_new and lock.is_alone() and os.fstat(lock.data).st_size < 2 * resource.getpagesize():
                os.ftruncate(lock.data, 0)
            raise

    def lost(self, last_page: int | None) -> tuple[str, bool]:
        """Return why writes here would be lost to whoever opens the path, and whether reading is unsafe, too.

        The cause is empty while all is well. A file that was cut off must not be read: a mapped page behind its end
        would kill the process. last_page: number of the last page in use; None where the environment is closed.
        """
        try:
            found = self.real.stat()
        except OSError as error:
            return f"{self.path} was removed: {error.strerror}", False
        if last_page is None:
            return "", False  # the file at the path is checked when it is opened
        needed_bytes = (last_page + 1) * self._page_bytes
        if _identity(found) != self.identity:
            return f"{self.path} was replaced by another file", False
        # A last page that is not written yet makes a file short, but not shorter than it was.
        if found.st_size < min(needed_bytes, self.seen_bytes):
            return f"{self.path} was cut off at {found.st_size} bytes", True
        self.seen_bytes = found.st_size
        return "", False

    def last_page(self) -> int:
        """Return the number of the last page in use. Where the two meta pages are cut off, LMDB cannot be asked: 1."""
        return 1 if self._size() < 2 * self._page_bytes else self.environment.info()["last_pgno"]

    def is_cut_off(self) -> bool:
        """Tell whether the file is shorter than its pages, so that reading it would kill the process."""
        return self._size() < self.seen_bytes and self._size() < (self.last_page() + 1) * self._page_bytes

    def _size(self) -> int:
        return self.seen_bytes if self.descriptor is None else os.fstat(self.descriptor).st_size

    def close(self) -> None:
        """Close the file, then release its locks."""
        self.descriptor = None
        self.environment.close()
        self._unlock()

    def _unlock(self) -> None:
        if self.write_mutex is not None:
            self.write_mutex.close()
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _refuse_foreign(path: Path, real: Path) -> None:
    """Check the file before LMDB opens it: LMDB would leave a lock file beside a foreign file."""
    try:
        mode = real.stat().st_mode
        if stat.S_ISDIR(mode):
            raise CannotOpen(f"{path} is a directory", "Give the path of a file in it.")
        if not stat.S_ISREG(mode):  # opening a pipe would wait for its other end
            raise CannotOpen(f"{path} is not a regular file", "Give the path of a file.")
        with real.open("rb") as file:
            head = file.read(_MAGIC_AT + 4)
    except FileNotFoundError:
        return
    if head and (len(head) < _MAGIC_AT + 4 or struct.unpack_from("=I", head, _MAGIC_AT)[0] != _MAGIC):
        raise _foreign(path)


def _allocate_lock(lock: Path) -> None:
    """Allocate the lock file's blocks: LMDB maps its holes, and filling one on a full disk kills the process.

    If the file has its blocks, it is not opened, because closing it would release the locks of this process on it.
    """
    if lock.exists() and lock.stat().st_blocks * 512 >= LOCK_BYTES:
        return
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, LOCK_BYTES)
    finally:
        os.close(descriptor)


def _open(path: Path, synced: bool, max_bytes: int, readonly: bool) -> lmdb.Environment:
    return lmdb.open(
        str(path),
        subdir=False,
        map_size=_most_bytes(path.parent, max_bytes),
        readonly=readonly,
        lock=not readonly or os.access(f"{path}-lock", os.W_OK),
        sync=synced,
        metasync=synced,
        mode=0o600,
        max_readers=MAX_READERS,
        max_dbs=1,
        max_spare_txns=2,
        lib_version=ENGINE,
    )


def _most_bytes(directory: Path, max_bytes: int) -> int:
    """Return how large the file may become: max_bytes or the file system's size, but no larger than ulimit -f."""
    disk = os.statvfs(directory)
    most_bytes = max_bytes or disk.f_blocks * disk.f_frsize
    limit_bytes, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if limit_bytes != resource.RLIM_INFINITY:
        most_bytes = min(most_bytes, limit_bytes)
    return max(most_bytes, MIN_BYTES)


def _check_whole(path: Path, real: Path, environment: lmdb.Environment) -> None:
    """Refuse a file that has been cut off: reading a mapped page after its end would kill the process.

    LMDB never writes a last page that one transaction took and gave back. So a short file may still be whole.
    """
    expected_bytes = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    if real.stat().st_size < expected_bytes:
        problems: list[str] = verify(str(real), subdir=False)  # type: ignore[no-untyped-call]
        if problems:
            raise _damaged(path, problems[0])


def _check_marker(path: Path, real: Path, environment: lmdb.Environment, readonly: bool) -> None:
    with environment.begin() as txn:
        marker = txn.get(MARKER_KEY)
        empty = txn.stat()["entries"] == 0
    if marker == b"%d" % FORMAT:
        return
    if marker is None and not empty:
        raise _foreign(path)
    if marker is None:
        if not readonly:
            with environment.begin(write=True) as txn:
                txn.put(MARKER_KEY, b"%d" % FORMAT)
            environment.sync(True)
            sync_directory(real.parent)
        return
    if marker.isdigit():
        raise CannotOpen(
            f"{path} has format {marker.decode()}, and this version of kvss-gevent knows {FORMAT}",
            "Use the version that wrote it, or a newer one.",
        )
    raise _damaged(path, "its format marker cannot be read")


def _foreign(path: Path) -> CannotOpen:
    return CannotOpen(
        f"{path} is not a store of kvss-gevent", "Give the path of such a store, or of a file that does not exist yet."
    )


def _damaged(path: Path, what: str) -> CannotOpen:
    return CannotOpen(
        f"{path} is damaged: {what}",
        "Restore it from a copy, or move it to another place to begin with an empty store.",
    )


def explained(path: Path, error: Exception) -> CannotOpen:
    """Return what an error of opening the store says to people."""
    if isinstance(error, DAMAGE):
        return _damaged(path, str(error))
    number: int = getattr(error, "errno", None) or getattr(error, "code", None) or 0
    remedy = {
        errno.ENOMEM: "Give --max-disk BYTES: that much address space is reserved.",
        errno.EMFILE: "Close some files, or raise the limit: ulimit -n.",
        errno.ENOSPC: "Make room on the disk.",
        errno.EACCES: "Give a path that this user may write.",
        errno.ELOOP: "A side file of the store is a symbolic link: remove it.",
    }.get(number, "Give another path.")
    return CannotOpen(f"cannot open {path}: {error}", remedy)
