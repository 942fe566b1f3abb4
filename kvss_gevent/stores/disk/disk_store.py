"""The store on disk: keys and values in an LMDB file. GroupCommit gathers the writes of many clients.

LMDB is copy-on-write: a commit writes new pages, syncs them, then writes one of two meta pages, synced. Readers never
wait and see the last commit; a process killed at any point leaves the last commit. The map is as large as the file may
ever become, from the start: it is address space and costs nothing. It moves only where another server lets the file
become larger than this one would; see map_lock.py.
"""

import contextlib
import errno
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import lmdb

from kvss_gevent.protocol.wire import DEL, PUT, READING_VERBS
from kvss_gevent.settings.config import Config
from kvss_gevent.stores.base import Batch, CannotOpen, Command, Job, ReplyTable, StoreError, writes
from kvss_gevent.stores.disk.checkpoint import Checkpoints, mark, mark_file, unmark
from kvss_gevent.stores.disk.deadlines import CREATED, OK, Clock, Deadlines, wall_clock_ms
from kvss_gevent.stores.disk.deadlines import NAME as DEADLINES
from kvss_gevent.stores.disk.file import MARKER_KEY, DataFile
from kvss_gevent.stores.disk.map_lock import MapLock
from kvss_gevent.stores.disk.records import SERVER_ERROR, RecentReplies, run
from kvss_gevent.stores.disk.reserve import Reserve, is_full

logger = logging.getLogger("kvss")

OUR_KEYS = (MARKER_KEY, DEADLINES)
"""Entries in the file that are not a client's; one that is opened for reading alone may lack the second."""

RECLAIMED_KEYS = 500
"""Keys that have ended and are deleted in one transaction beside what clients asked for: 2 ms of work.

More of them make a transaction longer by as much: each lies on another page, which is copied and written. With 4,000 in
a transaction two million take two thirds of the time, and a client's write waits five times as long.
"""
RECLAIM_S = 0.002
"""For how long they are deleted where no thread does it (sync none): nobody else is served meanwhile."""

SYNC_INTERVAL_S = 1.0
KEEP_INTERVAL_S = 0.25
"""How often the file is looked for: what is acknowledged to a file that is gone is lost."""
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
LOG_INTERVAL_S = 10.0
READER_CHECK_INTERVAL_S = 10.0

RESERVED_PAGES = 32
"""Pages that PUT leaves free under --max-disk, because LMDB needs new pages to delete, too."""


class DiskStore:
    """An LMDB file as a Store, for one process or several.

    sync: "always" syncs each transaction before `transact` returns, "interval" once a second, "none" leaves it to the
    kernel. max_bytes bounds the file, 0 is no bound. `read` may run beside a `transact` of another thread; `transact`
    is for one thread at a time. Raises CannotOpen.
    """

    run = None
    blocks = True

    def __init__(self, path: Path, sync: str = "always", max_bytes: int = 0, clock: Clock = wall_clock_ms) -> None:
        self.replies = ReplyTable()
        self._clock = clock
        self._given_path = path
        self._sync = sync
        self._max_bytes = max_bytes
        self._map = MapLock()
        self.expired_keys = 0
        """How many keys have ended at their deadline and been replaced or deleted, by this process."""
        self._open()
        info, page_bytes = self._env.info(), self._env.stat()["psize"]
        self._bound_pages = info["map_size"] // page_bytes
        self._most_pages = self._bound_pages
        self._refusing = False
        self._refused_logged_s = float("-inf")
        self._recent = RecentReplies()
        self._unsynced = False
        self._syncing = threading.Lock()
        self._unsyncable = ""
        self._lost = ""
        """Why nothing can be written until the server is started again."""
        self._unreadable = False
        self._disk_is_full = False
        self._reserve = Reserve(self._path)
        self._closing = threading.Event()
        self._closed = False
        self._keeper = threading.Thread(target=self._keep, name="kvss-disk", daemon=True)
        if not self._env.flags()["readonly"]:
            self._reserve.hold()
            self._keeper.start()

    def _open(self) -> None:
        self._file = DataFile(self._given_path, synced=self._sync == "always", max_bytes=self._max_bytes)
        self._path = self._file.real
        self._env = self._file.environment
        self._deadlines = Deadlines(self._env, self._clock)
        self._checkpoints = Checkpoints(self._path, self._env, self._map.writing)
        if self._env.flags()["readonly"]:
            return
        if self._sync == "interval":
            self._checkpoints.take()
        elif mark_file(self._path).exists() or self._sync == "none":
            self._env.sync(True)  # a server that was killed may not have
            if self._sync == "none":
                mark(self._path, b"")
            else:
                unmark(self._path)

    @property
    def path(self) -> Path:
        """Of the file, without symbolic links."""
        return self._path

    @property
    def identity(self) -> tuple[int, int]:
        """Device and inode of the file that is open."""
        return self._file.identity

    def apply(self, batch: Batch, limit_bytes: int) -> list[bytes]:
        """Run commands in order, those that write in a transaction; see Store. Waits for the disk."""
        if not writes(batch):
            return self.read(batch, limit_bytes)
        return self.transact([(batch, limit_bytes)])[0]

    def read(self, batch: Batch, limit_bytes: int) -> list[bytes]:
        """Run GETs and TTLs on the last committed state, without waiting for a writer. Raises StoreError."""
        if self._unreadable:
            raise StoreError(self._lost)
        try:
            with self._map.reading, self._env.begin() as txn:
                return run(txn, self._deadlines, batch, limit_bytes)
        except lmdb.MapResizedError:
            self._follow_map()
            return self.read(batch, limit_bytes)
        except lmdb.Error as error:
            raise StoreError(f"cannot read {self._path}: {error}") from None

    def _follow_map(self) -> None:
        """Make our map larger, as another server's is. Raises StoreError."""
        try:
            self._map.follow(self._env)
        except TimeoutError as error:
            raise StoreError(f"cannot read {self._path}: {error}") from None
        except lmdb.Error as error:  # there is no map any more
            self._lost = f"{self._path} has outgrown the address space of this server: {error}"
            self._unreadable = True
            raise StoreError(self._lost) from None

    def transact(self, jobs: Sequence[Job]) -> list[list[bytes]]:
        """Run jobs, each a batch with its limit_bytes, in order and in one transaction; return the replies of each.

        On return what was written is committed and synced as this store promises. Commands that could not be done get
        500: writes where the disk fails, and where room runs out only those that need room, each job and if need be
        each command then having a transaction of its own. Never raises StoreError.
        """
        if self._lost or self._unsyncable:
            return [self._refuse(job, self._lost or self._unsyncable) for job in jobs]
        try:
            with self._map.writing:
                replies = self._commit(jobs)
        except lmdb.MapResizedError:
            try:
                self._follow_map()
            except StoreError as fault:
                return [self._refuse(job, str(fault)) for job in jobs]
            return self.transact(jobs)
        except _NoRoom as error:
            if self._sync == "interval" and self._unsynced:
                self._sync_once()  # the pages that only the last checkpoint held become free
                return self.transact(jobs)
            if len(jobs) > 1:
                return [self.transact([job])[0] for job in jobs]
            batch, limit_bytes = jobs[0]
            if len(batch) > 1:
                return [_one_by_one(jobs[0], lambda command: self.transact([([command], limit_bytes)])[0])]
            if batch[0][0] == DEL and self._reserve.release():
                return self.transact(jobs)
            return [self._refuse(jobs[0], str(error))]
        except lmdb.Error as error:
            if self._env_is_lost():
                self._reopen()
            return [self._refuse(job, str(error)) for job in jobs]
        if self._refusing and not self._lost and any(map(_has_put, jobs)):
            logger.warning("%s: writes work again", self._path)
            self._refusing = False
        return replies

    def _commit(self, jobs: Sequence[Job]) -> list[list[bytes]]:
        try:
            with self._env.begin(write=True) as txn:
                number = txn.id()
                recent = self._recent.inside(txn)
                deadlines = self._deadlines
                deadlines.in_use = txn.stat(deadlines.index)["entries"] > 0
                deadlines.forgotten = 0
                wrote = False
                replies = []
                for batch, limit_bytes in jobs:
                    answers = run(txn, deadlines, batch, limit_bytes, recent)
                    wrote = wrote or OK in answers or CREATED in answers  # no reply to a GET is one of these
                    replies.append(answers)
                stat = txn.stat()
                used_pages = stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
                if deadlines.in_use:
                    index = txn.stat(deadlines.index)
                    used_pages += index["branch_pages"] + index["leaf_pages"]
                if used_pages > self._most_pages - RESERVED_PAGES and wrote:
                    txn.abort()
                    raise _NoRoom(self._full())
                if deadlines.in_use and deadlines.ended(txn, 1):
                    # A transaction inside this one: where there is no room for it only this is undone.
                    before = deadlines.forgotten
                    try:
                        with self._env.begin(parent=txn, write=True) as inner:
                            most_s = RECLAIM_S if self._sync == "none" else math.inf
                            deadlines.reclaim(inner, RECLAIMED_KEYS, most_s)
                    except lmdb.MapFullError:
                        deadlines.forgotten = before
        except lmdb.MapFullError:
            raise _NoRoom(self._full()) from None
        except lmdb.Error as error:
            code = getattr(error, "code", None)
            # LMDB makes an I/O error of a write that the kernel did in part, as it does where the room ends.
            if code not in NO_SPACE and not (code == errno.EIO and is_full(self._path.parent)):
                raise
            self._hold_still()
            raise _NoRoom(self._full()) from None
        self.expired_keys += deadlines.forgotten
        if wrote:
            self._recent.as_of = number
        self._unsynced = True
        return replies

    def _hold_still(self) -> None:
        """Bound the store by the pages the file has, where the disk has no more: what DEL frees is then used again."""
        if not self._disk_is_full:
            self._disk_is_full = True
            self._most_pages = self._env.info()["last_pgno"] + 1

    def _full(self) -> str:
        if self._disk_is_full:
            return "the disk is full"
        bound = "--max-disk allows" if self._max_bytes else "the file system has"
        return f"the store is full: {bound} {self._max_bytes or self._env.info()['map_size']} bytes"

    def _refuse(self, job: Job, cause: str) -> list[bytes]:
        """Answer a job whose writes failed: 500 for them, while its GETs are read. Say so once in the log."""
        now_s = time.monotonic()
        if not self._refusing and now_s - self._refused_logged_s >= LOG_INTERVAL_S:
            self._refused_logged_s = now_s
            self._refusing = True
            logger.error("%s: writes get 500, reads go on: %s", self._path, cause)
        return _one_by_one(
            job, lambda command: self.read([command], 0) if command[0] in READING_VERBS else [SERVER_ERROR]
        )

    def _env_is_lost(self) -> bool:
        """Tell whether LMDB has given the environment up, as it does when a meta page could not be written."""
        try:
            with self._map.reading, self._env.begin():
                return False
        except lmdb.MapResizedError:
            return False
        except lmdb.Error:
            return True

    def _reopen(self) -> None:
        self._look_for_the_file()
        if self._lost:
            return  # what is at the path now is not what was acknowledged
        try:
            with self._map.alone():  # a reader inside would crash
                self._checkpoints.drop()
                self._file.close()
                self._open()
        except (CannotOpen, lmdb.Error, OSError) as error:
            if not self._refusing:  # the next write tries again
                logger.error("%s: cannot be opened again: %s", self._path, error)

    def _keep(self) -> None:
        """Be the thread that looks after the file: is it still there, has the disk room again, is a sync due."""
        sync_due_s = time.monotonic() + SYNC_INTERVAL_S
        check_due_s = time.monotonic() + READER_CHECK_INTERVAL_S
        while not self._closing.wait(KEEP_INTERVAL_S):
            self._look_for_the_file()
            if self._disk_is_full and self._reserve.hold():
                self._disk_is_full = False
                self._most_pages = self._bound_pages
            if time.monotonic() >= check_due_s:
                check_due_s += READER_CHECK_INTERVAL_S
                self._clear_dead_readers()
            if self._sync == "interval" and time.monotonic() >= sync_due_s:
                sync_due_s += SYNC_INTERVAL_S
                self._sync_once()

    def _clear_dead_readers(self) -> None:
        """Free the read transactions of processes that were killed: they keep old pages from being used again."""
        with contextlib.suppress(lmdb.Error):  # the environment may be on its way to be opened again
            self._env.reader_check()

    def _look_for_the_file(self) -> None:
        """Refuse writes from now on where the path does not lead to the file, and reads where the file was cut off."""
        with self._map.reading:
            lost, unreadable = self._file.lost()
        if lost and not self._lost:
            self._refusing = True  # the reason is said here, and not once more where a write is refused
            self._lost, self._unreadable = lost, unreadable
            logger.error("%s: PUT and DEL get 500 until the server is started again", lost)

    def _sync_once(self) -> None:
        with self._syncing:
            self._sync_now()

    def _sync_now(self) -> None:
        if not self._unsynced:
            return
        self._unsynced = False
        try:
            if self._unsyncable:
                self._checkpoints.write_again()
            if self._sync == "interval" and not self._closed:
                self._checkpoints.take()
            else:
                self._env.sync(True)
        except (lmdb.Error, OSError) as error:
            self._unsynced = True
            self._unsyncable = f"the last sync failed, acknowledged writes may be lost: {error}"
        else:
            self._unsyncable = ""

    def count(self) -> int:
        """Return the number of keys stored."""
        with self._map.reading, self._env.begin() as txn:
            entries: int = txn.stat()["entries"]
            ours = sum(txn.get(key) is not None for key in OUR_KEYS)
            return entries - ours - self._deadlines.ended(txn)

    def has_ended(self) -> bool:
        """Tell whether a transaction would delete keys that have ended."""
        if self._lost or self._unsyncable or self._env.flags()["readonly"]:
            return False
        try:
            with self._map.reading, self._env.begin() as txn:
                return self._deadlines.ended(txn, 1) > 0
        except lmdb.Error:  # the environment may be on its way to be opened again
            return False

    def close(self) -> None:
        """Sync what is not synced, and release the file; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        self._closing.set()
        if self._keeper.is_alive():
            self._keeper.join()
        self._checkpoints.drop()
        if self._sync != "always" and not self._env.flags()["readonly"] and not self._lost:
            self._unsynced = True
            self._sync_once()
            if not self._unsyncable:
                unmark(self._path)
        self._reserve.release()
        self._file.close()


class _NoRoom(Exception):
    """The transaction was undone because the file may not grow."""


def _has_put(job: Job) -> bool:
    for verb, _, _ in job[0]:  # noqa: SIM110 - any() costs 0.4 us more
        if verb == PUT:
            return True
    return False


def _one_by_one(job: Job, run_one: Callable[[Command], list[bytes]]) -> list[bytes]:
    """Run the commands of a job each on its own, with the same bound on what is fetched."""
    batch, left_bytes = job
    replies = []
    for command in batch:
        try:
            (reply,) = run_one(command)
        except StoreError as fault:
            logger.error("%s", fault)
            reply = SERVER_ERROR
        replies.append(reply)
        left_bytes -= len(reply)
        if left_bytes < 0:
            break
    return replies


def open_url(rest: str, config: Config) -> DiskStore:
    """Open the store of `disk:PATH`. Raises CannotOpen."""
    return DiskStore(Path(rest), config.sync, config.max_disk_bytes)
