"""The store on disk: keys and values in an LMDB file. Gathering the writes of many clients is for coalesce.py.

LMDB is copy-on-write: a commit writes new pages, syncs them, then writes one of two meta pages, synced. Readers never
wait and see the last commit; a process killed at any point leaves the last commit. The map is as large as the file may
ever become, from the start: it is address space and costs nothing, and it need never be moved under a reader.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import lmdb

from kvss_gevent.protocol.wire import GET, PUT
from kvss_gevent.settings.config import Config
from kvss_gevent.stores.base import CannotOpen, Command, Job, Result, StoreError, is_lines, writes
from kvss_gevent.stores.disk.checkpoint import Checkpoints, mark, mark_file, unmark
from kvss_gevent.stores.disk.file import DataFile
from kvss_gevent.stores.disk.records import RecentReplies, read_lines, run, run_lines
from kvss_gevent.stores.lines import commands_of, lines_done

logger = logging.getLogger("kvss")

OUR_KEYS = 1
"""Entries in the file that are not a client's: the format marker."""

SYNC_INTERVAL_S = 1.0
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

    blocks = True

    def __init__(self, path: Path, sync: str = "always", max_bytes: int = 0) -> None:
        self._given_path = path
        self._sync = sync
        self._max_bytes = max_bytes
        self._open()
        info, page_bytes = self._env.info(), self._env.stat()["psize"]
        self._put_pages = info["map_size"] // page_bytes - RESERVED_PAGES
        self._refusing = False
        self._refused_logged_s = float("-inf")
        self._readers_checked_s = time.monotonic()
        self._recent = RecentReplies()
        self._unsynced = False
        self._syncing = threading.Lock()
        self._unsyncable = ""
        self._closing = threading.Event()
        self._closed = False
        self._syncer = threading.Thread(target=self._sync_now_and_then, name="kvss-sync", daemon=True)
        if sync == "interval":
            self._syncer.start()

    def _open(self) -> None:
        self._file = DataFile(self._given_path, synced=self._sync == "always", max_bytes=self._max_bytes)
        self._path = self._file.real
        self._env = self._file.environment
        self._checkpoints = Checkpoints(self._path, self._env)
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

    def apply(self, batch: Sequence[Command], limit_bytes: int) -> list[Result]:
        """Run commands in order, those that write in a transaction; see Store. Waits for the disk."""
        if not writes(batch):
            return self.read(batch, limit_bytes)
        results: list[Result] = self.transact([(batch, limit_bytes)])[0]
        return results

    def read(self, batch: Sequence[Command], limit_bytes: int) -> list[Result]:
        """Run GETs on the last committed state, without waiting for a writer. Raises StoreError."""
        try:
            with self._env.begin() as txn:
                return run(txn, batch, limit_bytes)
        except lmdb.Error as error:
            raise StoreError(f"cannot read {self._path}: {error}") from None

    def read_lines(self, lines: Sequence[bytes], limit_bytes: int) -> list[bytes]:
        """Return the replies to the plain GETs in front; see LineStore and read. Raises StoreError."""
        try:
            with self._env.begin() as txn:
                return read_lines(txn, lines, limit_bytes)
        except lmdb.Error as error:
            raise StoreError(f"cannot read {self._path}: {error}") from None

    def transact(self, jobs: Sequence[Job]) -> list[Any]:
        """Run jobs in order and in one transaction; return for each a list of Result, or LinesDone for one of lines.

        On return what was written is committed and synced as this store promises. Commands that could not be done have
        a StoreError for their result: writes where the disk fails, and where room runs out only those that need room,
        each job and if need be each command then having a transaction of its own. Never raises StoreError.
        """
        if self._unsyncable:
            return [self._refuse(job, self._unsyncable) for job in jobs]
        try:
            results = self._commit(jobs)
        except _NoRoom as error:
            if self._sync == "interval" and self._unsynced:
                self._sync_once()  # the pages that only the last checkpoint held become free
                return self.transact(jobs)
            if len(jobs) > 1:
                return [self.transact([job])[0] for job in jobs]
            (commands, limit_bytes) = jobs[0]
            if len(commands) == 1 and not is_lines(commands):
                return [self._refuse(jobs[0], str(error))]
            return [_one_by_one(jobs[0], lambda command: self.transact([([command], limit_bytes)])[0])]
        except lmdb.Error as error:
            if self._env_is_lost():
                self._reopen()
            return [self._refuse(job, str(error)) for job in jobs]
        if self._refusing and any(map(_has_put, jobs)):
            logger.warning("%s: writes work again", self._path)
            self._refusing = False
        return results

    def _commit(self, jobs: Sequence[Job]) -> list[Any]:
        self._clear_dead_readers()
        try:
            with self._env.begin(write=True) as txn:
                number = txn.id()
                recent = self._recent.inside(txn)
                wrote = 0
                results: list[Any] = []
                for commands, limit_bytes in jobs:
                    if is_lines(commands):
                        done = run_lines(txn, commands, limit_bytes, recent)
                        wrote += done[1]
                        results.append(done)
                    else:
                        recent.clear()
                        results.append(run(txn, cast("Sequence[Command]", commands), limit_bytes))
                stat = txn.stat()
                used_pages = stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
                if used_pages > self._put_pages and any(map(_has_put, jobs)):
                    txn.abort()
                    raise _NoRoom(self._full())
        except lmdb.MapFullError:
            raise _NoRoom(self._full()) from None
        if wrote:
            self._recent.committed(number)
        self._unsynced = True
        return results

    def _full(self) -> str:
        bound = "--max-disk allows" if self._max_bytes else "the file system has"
        return f"the store is full: {bound} {self._env.info()['map_size']} bytes"

    def _refuse(self, job: Job, cause: str) -> Any:
        """Answer a job whose writes failed: StoreError for them, while its GETs are read. Say so once in the log."""
        now_s = time.monotonic()
        if not self._refusing and now_s - self._refused_logged_s >= LOG_INTERVAL_S:
            self._refused_logged_s = now_s
            self._refusing = True
            logger.error("%s: writes get 500, reads go on: %s", self._path, cause)
        fault = StoreError(cause)
        fault.logged = True
        return _one_by_one(job, lambda command: self.read([command], 0) if command[0] is GET else [fault])

    def _clear_dead_readers(self) -> None:
        """Free the read transactions of processes that were killed: they keep old pages from being used again."""
        now_s = time.monotonic()
        if now_s - self._readers_checked_s >= READER_CHECK_INTERVAL_S:
            self._readers_checked_s = now_s
            self._env.reader_check()

    def _env_is_lost(self) -> bool:
        """Tell whether LMDB has given the environment up, as it does when a meta page could not be written."""
        try:
            with self._env.begin():
                return False
        except lmdb.Error:
            return True

    def _reopen(self) -> None:
        self._checkpoints.drop()
        self._file.close()
        try:
            self._open()
        except (CannotOpen, lmdb.Error, OSError) as error:
            if not self._refusing:  # the next write tries again
                logger.error("%s: cannot be opened again: %s", self._path, error)

    def _sync_now_and_then(self) -> None:
        """Be the thread of --sync interval."""
        while not self._closing.wait(SYNC_INTERVAL_S):
            self._sync_once()

    def _sync_once(self) -> None:
        with self._syncing:
            self._sync_now()

    def _sync_now(self) -> None:
        if not self._unsynced:
            return
        self._unsynced = False
        try:
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
        entries: int = self._env.stat()["entries"]
        return entries - OUR_KEYS

    def close(self) -> None:
        """Sync what is not synced, and release the file; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        self._closing.set()
        if self._syncer.is_alive():
            self._syncer.join()
        self._checkpoints.drop()
        if self._sync != "always" and not self._env.flags()["readonly"]:
            self._unsynced = True
            self._sync_once()
            if not self._unsyncable:
                unmark(self._path)
        self._file.close()


class _NoRoom(Exception):
    """The transaction was undone because the file may not grow."""


def _has_put(job: Job) -> bool:
    return any(command[0] is PUT for command in _batch(job))


def _batch(job: Job) -> Sequence[Command]:
    commands, _ = job
    return commands_of(commands) if is_lines(commands) else cast("Sequence[Command]", commands)


def _one_by_one(job: Job, run_one: Callable[[Command], list[Result]]) -> Any:
    """Run the commands of a job each on its own, with the same bound on what is fetched; return as transact does."""
    batch, left_bytes = _batch(job), job[1]
    results: list[Result] = []
    for command in batch:
        try:
            (result,) = run_one(command)
        except StoreError as fault:
            result = fault
        results.append(result)
        left_bytes -= len(result) if isinstance(result, bytes) else 0
        if left_bytes < 0:
            break
    return lines_done(batch, results) if is_lines(job[0]) else results


def open_url(rest: str, config: Config) -> DiskStore:
    """Open the store of `disk:PATH`. Raises CannotOpen."""
    return DiskStore(Path(rest), config.sync, config.max_disk_bytes)
