"""Opens the LMDB file of the disk store, makes it ours, and refuses files that are not, are newer, or are damaged."""

import errno
import logging
import os
import struct
from pathlib import Path

import lmdb
from lmdb.verify import VerifyError, verify

from kvss_gevent.stores.base import CannotOpen
from kvss_gevent.stores.disk.checkpoint import recover, sync_directory

logger = logging.getLogger("kvss")

MARKER_KEY = b" kvss-gevent"
"""Holds the format of the file. No client's key: those have no space."""
FORMAT = 1

MIN_BYTES = 1 << 20
ENGINE = 0
"""LMDB 0.9: its file format is the one that other programs read, and 15 years old."""

MAX_READERS = 1024
LOCK_BYTES = 80 << 10
"""Of the lock file: 64 for each reader, and LMDB's own head."""
_MAGIC = 0xBEEFC0DE
_MAGIC_AT = 16


_DAMAGE = (lmdb.InvalidError, lmdb.VersionMismatchError, lmdb.CorruptedError, lmdb.PageNotFoundError, VerifyError)


def open_environment(path: Path, *, synced: bool, max_bytes: int) -> lmdb.Environment:
    """Open or create the file, mapped at the largest size it may ever have. Raises CannotOpen.

    Where the file cannot be written it is opened for reading alone, with a warning.
    """
    if not path.name:
        raise CannotOpen("disk: has no path", "Give one, as in --store disk:data.kv.", usage=True)
    if 0 < max_bytes < MIN_BYTES:
        raise CannotOpen(f"--max-disk {max_bytes} is too small", f"Give {MIN_BYTES} bytes or more.", usage=True)
    if path.is_dir():
        raise CannotOpen(f"{path} is a directory", "Give the path of a file in it.")
    if not path.parent.is_dir():
        raise CannotOpen(f"there is no directory {path.parent}", "Make it, or give another path.")
    try:
        _refuse_foreign(path)
        readonly = path.exists() and not os.access(path, os.W_OK)
        if not readonly:
            recover(path)
            _allocate_lock(Path(f"{path}-lock"))
        environment = _open(path, synced, max_bytes, readonly)
        try:
            _check_whole(path, environment)
            _check_marker(path, environment, readonly)
        except BaseException:
            environment.close()
            raise
    except (OSError, lmdb.Error, VerifyError) as error:
        raise _explained(path, error) from None
    if readonly:
        logger.warning("%s cannot be written: PUT and DEL get 500", path)
    return environment


def _refuse_foreign(path: Path) -> None:
    """Look at the first bytes before LMDB does, which would leave a lock file beside a file that is not its own."""
    try:
        with path.open("rb") as file:
            head = file.read(_MAGIC_AT + 4)
    except FileNotFoundError:
        return
    if head and (len(head) < _MAGIC_AT + 4 or struct.unpack_from("=I", head, _MAGIC_AT)[0] != _MAGIC):
        raise _foreign(path)


def _allocate_lock(lock: Path) -> None:
    """Give the lock file its blocks: LMDB leaves holes and maps them, and to fill one on a full disk kills the process.

    A file that has them is not opened: to close it would release the locks that this process may hold on it.
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
        map_size=max_bytes or _disk_bytes(path.parent),
        readonly=readonly,
        lock=not readonly or os.access(f"{path}-lock", os.W_OK),
        sync=synced,
        metasync=synced,
        mode=0o600,
        max_readers=MAX_READERS,
        max_spare_txns=2,
        lib_version=ENGINE,
    )


def _disk_bytes(directory: Path) -> int:
    """Return the size of the file system: no file on it becomes larger."""
    disk = os.statvfs(directory)
    return max(disk.f_blocks * disk.f_frsize, MIN_BYTES)


def _check_whole(path: Path, environment: lmdb.Environment) -> None:
    """Refuse a file that has been cut off: to read a mapped page behind its end would kill the process.

    A page at the end that one transaction took and gave back is never written, so that a file may be short and whole.
    """
    expected_bytes = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    if path.stat().st_size < expected_bytes:
        problems: list[str] = verify(str(path), subdir=False)  # type: ignore[no-untyped-call]
        if problems:
            raise _damaged(path, problems[0])


def _check_marker(path: Path, environment: lmdb.Environment, readonly: bool) -> None:
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
            sync_directory(path.parent)
        return
    if marker.isdigit():
        raise CannotOpen(
            f"{path} has format {marker.decode()}, and this version of kvss-gevent knows {FORMAT}",
            "Use the version that wrote it, or a newer one.",
        )
    raise _damaged(path, "its format marker cannot be read")


def _foreign(path: Path) -> CannotOpen:
    return CannotOpen(
        f"{path} is not a store of kvss-gevent", "Give the path of one, or of a file that is not there yet."
    )


def _damaged(path: Path, what: str) -> CannotOpen:
    return CannotOpen(
        f"{path} is damaged: {what}", "Restore it from a copy, or move it away to begin with an empty store."
    )


def _explained(path: Path, error: Exception) -> CannotOpen:
    if isinstance(error, _DAMAGE):
        return _damaged(path, str(error))
    number: int = getattr(error, "errno", None) or getattr(error, "code", None) or 0
    remedy = {
        errno.ENOMEM: "Give --max-disk BYTES: that much address space is reserved.",
        errno.ENOSPC: "Make room on the disk.",
        errno.EACCES: "Give a path that this user may write.",
    }.get(number, "Give another path.")
    return CannotOpen(f"cannot open {path}: {error}", remedy)
