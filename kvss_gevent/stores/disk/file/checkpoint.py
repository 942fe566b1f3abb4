"""The way back after a power loss for a disk store that does not sync each commit. --sync always does not need it.

Without syncs, both meta pages of LMDB may reach the disk before the pages that they point to. So the file is synced
once a second. The meta page of that moment is kept beside it, in `PATH-checkpoint`, with the id of this boot of the
machine. A read transaction of that moment is held until the next one, because LMDB does not reuse a page that a reader
may see. If the store is opened after another boot, the meta page is put back: the file is as it was at that moment.

`PATH-checkpoint` has two slots of a fixed size, which are written in turn. If a write is cut off, the other slot is
still whole. A checkpoint needs no new room: on a full disk only a checkpoint frees the room of deleted keys.
"""

import fcntl
import os
import struct
import threading
import time
import zlib
from pathlib import Path
from typing import Any

from lmdb.verify import verify

from kvss_gevent.settings.named_files import take_turn
from kvss_gevent.stores.base import CannotOpen

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_HEAD = b"kvss-gevent checkpoint 2\n"
_HEAD_1 = b"kvss-gevent checkpoint 1\n"
"""The form of version 0.1: one checkpoint; each one replaced the file."""
_SLOT = struct.Struct("=25sIQI")
"""The beginning of a slot: head, checksum of number and body, number, length of the body."""
SLOT_BYTES = 80 << 10
"""Holds the largest page that LMDB knows, 64 KiB."""
LOCK_S = 1.0
COPIED_BYTES = 1 << 20
_PAGE_NUMBER = struct.Struct("=Q")
_TXN_ID = struct.Struct("=Q")
_TXN_ID_AT = 144
"""In a meta page of LMDB 0.9: after the page's head of 16 bytes and 128 bytes of the meta record."""


def boot_id() -> bytes:
    """Return the id of this boot of the machine."""
    return BOOT_ID.read_bytes().strip()


def mark_file(path: Path) -> Path:
    """Return the file that stands beside a store whose writes may not be synced. After a clean end it is absent."""
    return Path(f"{path}-checkpoint")


def recover(path: Path) -> None:
    """Undo what a power loss may have damaged. Called before the file is opened. Raises CannotOpen and OSError.

    With a checkpoint, the file goes back to it. Without one, after --sync none, the whole file is verified.
    """
    side = mark_file(path)
    if not side.exists():
        return
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # two servers may start at once
        if not side.exists():
            return
        found = _parse(side)
        if found is None:
            return  # a server ended while it made its first checkpoint, and had written nothing before
        boot, page = found
        if boot == boot_id():
            return  # the kernel has kept all that was written
        if page:
            for number in (0, 1):
                os.pwrite(descriptor, _meta_page(page, number), number * len(page))
            os.fsync(descriptor)
        else:
            problems: list[str] = verify(str(path), subdir=False)  # type: ignore[no-untyped-call]
            if problems:
                raise CannotOpen(
                    f"{path} was damaged when the machine went down: {problems[0]}",
                    "Restore it from a copy, or move it to another place; --sync none does not protect against this.",
                )
        unmark(path)
    finally:
        os.close(descriptor)


def _meta_page(page: bytes, number: int) -> bytes:
    """Return a checkpoint's meta page as page 0 or 1. LMDB uses the one with the newer transaction number."""
    copy = bytearray(page)
    _PAGE_NUMBER.pack_into(copy, 0, number)
    (txn_id,) = _TXN_ID.unpack_from(page, _TXN_ID_AT)
    if txn_id & 1 != number:
        _TXN_ID.pack_into(copy, _TXN_ID_AT, txn_id - 1)
    return bytes(copy)


def _parse(side: Path) -> tuple[bytes, bytes] | None:
    """Return the boot and the meta page of the last whole checkpoint; None if none was made. Raises CannotOpen."""
    deadline_s = time.monotonic() + LOCK_S
    while not (content := _read(side)).strip(b"\0") and time.monotonic() < deadline_s:
        time.sleep(0.01)  # another server is making it
    if not content.strip(b"\0"):
        return None
    if content.startswith(_HEAD_1):
        checksum, _, body = content[len(_HEAD_1) :].partition(b"\n")
        if checksum == b"%08x" % zlib.crc32(body):
            boot, _, page = body.partition(b"\n")
            return boot, page
    slots = [slot for slot in map(_slot, (content[:SLOT_BYTES], content[SLOT_BYTES:])) if slot]
    if not slots:
        raise CannotOpen(
            f"{side} cannot be read", "Restore it and the store from a copy, or move both to another place."
        )
    return max(slots)[1:]


def _read(side: Path) -> bytes:
    """Return what is in the file. Follows no link, and does not wait for the writer of a pipe. Raises OSError."""
    descriptor = os.open(side, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.pread(descriptor, 2 * SLOT_BYTES, 0)  # a pipe has no such place: ESPIPE
    finally:
        os.close(descriptor)


def _slot(content: bytes) -> tuple[int, bytes, bytes] | None:
    """Return number, boot and page of a slot; None if the slot is not whole."""
    if len(content) < _SLOT.size or not content.startswith(_HEAD):
        return None
    _, checksum, number, length = _SLOT.unpack_from(content)
    body = content[_SLOT.size : _SLOT.size + length]
    if checksum != zlib.crc32(b"%d\n%b" % (number, body)):
        return None
    boot, _, page = body.partition(b"\n")
    return number, boot, page


def mark(path: Path, page: bytes) -> None:
    """Write a checkpoint into the older slot. With an empty page there is nothing to go back to. Raises OSError."""
    side = mark_file(path)
    descriptor = os.open(side, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        take_turn(descriptor, LOCK_S)  # a stopped server may keep it
        is_new = os.fstat(descriptor).st_size < 2 * SLOT_BYTES
        if is_new:
            os.posix_fallocate(descriptor, 0, 2 * SLOT_BYTES)
        slots = [_slot(os.pread(descriptor, SLOT_BYTES, at)) for at in (0, SLOT_BYTES)]
        numbers = [slot[0] if slot else 0 for slot in slots]
        number, body = max(numbers) + 1, boot_id() + b"\n" + page
        head = _SLOT.pack(_HEAD, zlib.crc32(b"%d\n%b" % (number, body)), number, len(body))
        os.pwrite(descriptor, head + body, SLOT_BYTES * numbers.index(min(numbers)))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if is_new:
        sync_directory(path.parent)


def unmark(path: Path) -> None:
    """Remove the file: all is synced."""
    mark_file(path).unlink(missing_ok=True)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Sync a directory, so that the names of its files are on the disk, too."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Checkpoints:
    """Takes checkpoints of one open environment, and holds the lock `writing` meanwhile."""

    def __init__(self, path: Path, environment: Any, writing: threading.Lock) -> None:
        self._path = path
        self._writing = writing
        self._environment = environment
        self._held: Any = None

    def take(self) -> None:
        """Sync what is committed and make it the checkpoint. Raises lmdb.Error and OSError."""
        env = self._environment
        page_bytes: int = env.stat()["psize"]
        with self._writing, env.begin(write=True) as nobody_commits:
            held = env.begin()
            with self._path.open("rb") as file:
                page = os.pread(file.fileno(), page_bytes, (held.id() & 1) * page_bytes)
            nobody_commits.abort()
        if _TXN_ID.unpack_from(page, _TXN_ID_AT) != (held.id(),):
            raise OSError("the meta page is not where LMDB 0.9 has it")
        env.sync(True)
        mark(self._path, page)
        if self._held is not None:
            self._held.abort()
        self._held = held

    def write_again(self) -> None:
        """Write all that the file holds again, in the same places. Raises lmdb.Error and OSError.

        Needed before the sync that follows a failed one: the kernel counts the pages of a failed sync as written, and
        the next sync succeeds without them.
        """
        with self._writing, self._environment.begin(write=True), self._path.open("r+b", buffering=0) as file:
            at = 0
            while part := os.pread(file.fileno(), COPIED_BYTES, at):
                at += os.pwrite(file.fileno(), part, at)

    def drop(self) -> None:
        """End the held transaction, before the environment is closed."""
        if self._held is not None:
            self._held.abort()
            self._held = None
