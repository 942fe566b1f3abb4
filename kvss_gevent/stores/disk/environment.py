"""The LMDB environment of the disk store: watched, synced, and opened again if LMDB has given it up."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import lmdb

from kvss_gevent.stores.base import CannotOpen, StoreError
from kvss_gevent.stores.disk.deadlines import Clock, Deadlines
from kvss_gevent.stores.disk.file.checkpoint import Checkpoints, mark, mark_file, unmark
from kvss_gevent.stores.disk.file.data_file import DAMAGE, DataFile, explained
from kvss_gevent.stores.disk.file.map_lock import MapLock
from kvss_gevent.stores.disk.file.reserve import Reserve
from kvss_gevent.stores.disk.file.write_mutex import WriteMutex

logger = logging.getLogger("kvss")

SYNC_INTERVAL_S = 1.0
KEEP_INTERVAL_S = 0.25
"""How often the store checks that the file is still there: a write to a removed file is lost."""
READER_CHECK_INTERVAL_S = 10.0
CLOSE_S = 10.0
TRIES = 10
"""The most transactions that are begun for one request while other servers let the file grow."""

Result = TypeVar("Result")


class DiskEnvironment:
    """One open data file: its LMDB environment, a thread that looks after it, and its faults.

    handle, deadlines: use them while holding a lock of `map`; they may be replaced afterwards. lost: why nothing can be
    written until the server is started again. unreadable: whether reading is unsafe, too. unsyncable: why nothing can
    be written until a sync succeeds. unsynced: whether something is committed and not synced; set by the committer.
    expired_keys: how many keys have ended and been replaced or deleted, by this process. most_pages: how many pages the
    file may have. write_mutex: None if the store is read-only. Raises CannotOpen.
    """

    handle: Any
    deadlines: Deadlines
    write_mutex: WriteMutex | None

    def __init__(self, path: Path, sync: str, max_bytes: int, clock: Clock) -> None:
        self._given_path = path
        self._sync = sync
        self._max_bytes = max_bytes
        self._clock = clock
        self.map = MapLock()
        try:
            self._open()
            self._begin_checkpoints()
        except (lmdb.Error, OSError) as error:
            self._checkpoints.drop()
            self.file.close()
            raise explained(path, error) from None
        self.readonly: bool = self.handle.flags()["readonly"]
        self._bound_pages: int = self.handle.info()["map_size"] // self.handle.stat()["psize"]
        self.most_pages = self._bound_pages
        self.lost = ""
        self.unreadable = False
        self.unsynced = False
        self.unsyncable = ""
        self.expired_keys = 0
        self._syncing = threading.Lock()
        self._reopen_fault = ""
        self._disk_is_full = False
        self.reserve = Reserve(self.path)
        self._closing = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="kvss-disk", daemon=True)
        if not self.readonly:
            self.reserve.hold()
            self._keeper.start()

    def _open(self) -> None:
        self.file = DataFile(self._given_path, synced=self._sync == "always", max_bytes=self._max_bytes)
        self.path = self.file.real
        self.handle = self.file.environment
        self.write_mutex = self.file.write_mutex
        self._checkpoints = Checkpoints(self.path, self.handle, self.map.writing)
        self.deadlines = Deadlines(self.handle, self._clock)

    def _begin_checkpoints(self) -> None:
        """Make sure that a power loss from now on can be undone, as far as `sync` promises it."""
        if self.handle.flags()["readonly"]:
            return
        if self._sync == "interval":
            self._checkpoints.take()
        elif mark_file(self.path).exists() or self._sync == "none":
            self.handle.sync(True)  # a server that was killed may not have synced
            if self._sync == "none":
                mark(self.path, b"")
            else:
                unmark(self.path)

    @property
    def identity(self) -> tuple[int, int]:
        """Device and inode of the file."""
        return self.file.identity

    def writer_hangs(self, held_s: float) -> bool:
        """Wait while another process writes; tell whether its transaction has not ended for held_s.

        Call it with map.writing held.
        """
        mutex = self.write_mutex
        return mutex is not None and mutex.is_stuck(lambda: self.handle.info()["last_txnid"], held_s)

    def check_whole(self) -> None:
        """Raise StoreError if the file is shorter than its pages: touching them would kill the process.

        Call it with a lock of `map` held.
        """
        if self.file.is_cut_off():
            raise StoreError(f"{self.path} was cut off")

    def look(self, work: Callable[[Any], Result]) -> Result:
        """Call `work` with a read transaction of the last committed state, and return its result. Raises StoreError."""
        for _ in range(TRIES):
            if self.unreadable:
                raise StoreError(self.lost)
            try:
                with self.map.to_read():
                    self.check_whole()
                    with self.handle.begin() as txn:
                        return work(txn)
            except lmdb.MapResizedError:
                self.follow_map()
            except (lmdb.Error, TimeoutError) as error:
                self.check_damage(error)
                raise StoreError(f"cannot read {self.path}: {error}") from None
        raise StoreError(f"cannot read {self.path}: other servers let it grow all the time")

    def follow_map(self) -> None:
        """Make our map larger, as another server's is. Raises StoreError."""
        try:
            self.map.follow(self.handle)
        except TimeoutError as error:
            raise StoreError(f"cannot read {self.path}: {error}") from None
        except lmdb.Error as error:  # there is no map any more
            self._lose(f"{self.path} has outgrown the address space of this server: {error}", unreadable=True)
            raise StoreError(self.lost) from None

    def _lose(self, reason: str, *, unreadable: bool) -> None:
        """Refuse writes from now on, and reads where they are unsafe."""
        logger.error("%s: PUT and DEL get 500 until the server is started again", reason)
        self.lost, self.unreadable = reason, unreadable

    def check_damage(self, fault: Exception) -> None:
        """Refuse writes from now on if the fault shows that pages are damaged: more writes would lose more.

        A file that was cut off and has grown again has holes, and its size does not tell.
        """
        if isinstance(fault, DAMAGE) and not self.lost:
            self._lose(f"{self.path} is damaged: {fault}", unreadable=False)

    def mend(self) -> None:
        """Open the file again if LMDB has given it up, as it does when a meta page could not be written."""
        if not self._is_given_up():
            return
        self._look_for_the_file()
        if self.lost:
            return  # another file may be at the path now
        try:
            with self.map.alone():  # a reader that is in a transaction would crash
                self._checkpoints.drop()
                self.file.close()
                self._open()
                self._begin_checkpoints()
        except (CannotOpen, lmdb.Error, OSError) as error:
            if str(error) != self._reopen_fault:  # the next write tries again
                self._reopen_fault = str(error)
                logger.error("%s: cannot be opened again: %s", self.path, error)
        else:
            self._reopen_fault = ""

    def _is_given_up(self) -> bool:
        try:
            with self.map.to_read(), self.handle.begin():
                return False
        except (lmdb.MapResizedError, TimeoutError):
            return False
        except lmdb.Error:
            return True

    def hold_still(self) -> None:
        """The disk is full: let the store use only the pages that the file has. PUT can reuse what DEL frees."""
        if not self._disk_is_full:
            self._disk_is_full = True
            self.most_pages = self.handle.info()["last_pgno"] + 1

    def full(self) -> str:
        """Say why the file may not grow."""
        if self._disk_is_full:
            return "the disk is full"
        most_bytes = self.handle.info()["map_size"]
        if 0 < self._max_bytes <= most_bytes:
            return f"the store is full: --max-disk allows {self._max_bytes} bytes"
        return f"the store is full: the file system or ulimit -f allows {most_bytes} bytes"

    def _keep(self) -> None:
        """Run the thread that checks: is the file still there, has the disk room again, is a sync due?"""
        sync_due_s = time.monotonic() + SYNC_INTERVAL_S
        check_due_s = time.monotonic() + READER_CHECK_INTERVAL_S
        while not self._closing.wait(KEEP_INTERVAL_S):
            self._look_for_the_file()
            if self._disk_is_full and self.reserve.hold():
                self._disk_is_full = False
                self.most_pages = self._bound_pages
            if time.monotonic() >= check_due_s:
                check_due_s += READER_CHECK_INTERVAL_S
                self._clear_dead_readers()
            if self._sync == "interval" and time.monotonic() >= sync_due_s:
                sync_due_s += SYNC_INTERVAL_S
                self.sync()

    def _clear_dead_readers(self) -> None:
        """Free the read transactions of killed processes, because LMDB does not reuse pages that they may see."""
        with contextlib.suppress(lmdb.Error):  # another thread may be opening the environment again
            self.handle.reader_check()

    def _look_for_the_file(self) -> None:
        """Refuse writes from now on if the path does not lead to the file, and reads if the file was cut off."""
        last_page = None
        try:
            with self.map.to_read():
                file = self.file
                last_page = file.last_page()
        except TimeoutError:
            return  # it is being opened again
        except lmdb.Error:
            pass  # it could not be opened again
        reason, unreadable = file.lost(last_page)  # without the lock: this hangs if the disk does
        if reason and not self.lost:
            self._lose(reason, unreadable=unreadable)

    def sync(self) -> None:
        """Sync what is committed; `unsyncable` tells how that went."""
        with self._syncing:
            if not self.unsynced:
                return
            self.unsynced = False
            try:
                if self.unsyncable:
                    self._checkpoints.write_again()
                if self._sync == "interval" and not self._closing.is_set():
                    self._checkpoints.take()
                else:
                    self.handle.sync(True)
            except (lmdb.Error, OSError) as error:
                self.unsynced = True
                self.unsyncable = f"the last sync failed, acknowledged writes may be lost: {error}"
            else:
                self.unsyncable = ""

    def close(self) -> None:
        """Sync what is not synced, and release the file; a second call does nothing."""
        if self._closing.is_set():
            return
        self._closing.set()
        if self._keeper.is_alive():
            self._keeper.join(CLOSE_S)
            if self._keeper.is_alive():  # to close the file under it would crash the process
                logger.error("%s: the disk did not answer: the last writes may be lost", self.path)
                return
        self._checkpoints.drop()
        if self._sync != "always" and not self.readonly and not self.lost:
            self.unsynced = True
            self.sync()
            if not self.unsyncable:
                unmark(self.path)
        self.reserve.release()
        self.file.close()
