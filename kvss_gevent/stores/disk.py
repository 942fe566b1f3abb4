"""The store on disk: keys and values in an LMDB file. Gathering the writes of many clients is for coalesce.py.

LMDB is copy-on-write: a commit writes new pages, syncs them, then writes one of two meta pages, synced. Readers never
wait and see the last commit; a process killed at any point leaves the last commit. The map is as large as the file may
ever become, from the start: it is address space and costs nothing, and it need never be moved under a reader.
"""

import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lmdb

from kvss_gevent.config import Config
from kvss_gevent.stores.base import Command, Job, Result, StoreError, writes
from kvss_gevent.stores.diskfile import open_environment
from kvss_gevent.wire import Verb

logger = logging.getLogger("kvss")

GET, PUT = Verb.GET, Verb.PUT

RECORD_HEADER = b"\x01" + bytes(8)
"""The format of a record, 1, and 8 bytes for the time at which it expires, 0 for never. The value follows."""
_HEADER_BYTES = len(RECORD_HEADER)

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
        self._path = path
        self._sync = sync
        self._max_bytes = max_bytes
        self._env = open_environment(path, synced=sync == "always", max_bytes=max_bytes)
        info, page_bytes = self._env.info(), self._env.stat()["psize"]
        self._put_pages = info["map_size"] // page_bytes - RESERVED_PAGES
        self._refused = ""
        self._refused_logged_s = float("-inf")
        self._readers_checked_s = time.monotonic()
        self._unsynced = False
        self._unsyncable = ""
        self._closing = threading.Event()
        self._closed = False
        self._syncer = threading.Thread(target=self._sync_now_and_then, name="kvss-sync", daemon=True)
        if sync == "interval":
            self._syncer.start()

    def apply(self, batch: Sequence[Command], limit_bytes: int) -> list[Result]:
        """Run commands in order, those that write in a transaction; see Store. Waits for the disk."""
        if writes(batch):
            return self.transact([(batch, limit_bytes)])[0]
        return self.read(batch, limit_bytes)

    def read(self, batch: Sequence[Command], limit_bytes: int) -> list[Result]:
        """Run GETs on the last committed state, without waiting for a writer. Raises StoreError."""
        try:
            with self._env.begin() as txn:
                return _run(txn, batch, limit_bytes)
        except lmdb.Error as error:
            raise StoreError(f"cannot read {self._path}: {error}") from None

    def transact(self, jobs: Sequence[Job]) -> list[list[Result]]:
        """Run jobs, each a batch and its limit_bytes, in order and in one transaction; return the results of each.

        On return what was written is committed and synced as this store promises. Commands that could not be done have
        a StoreError for their result: writes where the disk fails, and where room runs out only those that need room,
        each job and if need be each command then having a transaction of its own. Never raises StoreError.
        """
        if self._unsyncable:
            return [self._refuse(job, self._unsyncable) for job in jobs]
        try:
            results = self._commit(jobs)
        except _NoRoom as error:
            if len(jobs) > 1:
                return [self.transact([job])[0] for job in jobs]
            (batch, limit_bytes) = jobs[0]
            if len(batch) > 1:
                return [[self.transact([([command], limit_bytes)])[0][0] for command in batch]]
            return [self._refuse(jobs[0], str(error))]
        except lmdb.Error as error:
            if self._env_is_lost():
                self._reopen()
            return [self._refuse(job, str(error)) for job in jobs]
        if self._refused:
            logger.warning("%s: writes work again", self._path)
            self._refused = ""
        return results

    def _commit(self, jobs: Sequence[Job]) -> list[list[Result]]:
        self._clear_dead_readers()
        try:
            with self._env.begin(write=True) as txn:
                results = [_run(txn, batch, limit_bytes) for batch, limit_bytes in jobs]
                stat = txn.stat()
                used_pages = stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
                if used_pages > self._put_pages and any(verb is PUT for batch, _ in jobs for verb, _, _ in batch):
                    txn.abort()
                    raise _NoRoom(self._full())
        except lmdb.MapFullError:
            raise _NoRoom(self._full()) from None
        self._unsynced = True
        return results

    def _full(self) -> str:
        return f"the store is full: --max-disk allows {self._env.info()['map_size']} bytes"

    def _refuse(self, job: Job, cause: str) -> list[Result]:
        """Answer a job whose writes failed: StoreError for them, while its GETs are read. Say so once in the log."""
        now_s = time.monotonic()
        if not self._refused and now_s - self._refused_logged_s >= LOG_INTERVAL_S:
            self._refused_logged_s = now_s
            logger.error("%s: writes get 500, reads go on: %s", self._path, cause)
        self._refused = cause
        fault = StoreError(cause)
        fault.logged = True
        batch, limit_bytes = job
        results: list[Result] = []
        for command in batch:
            try:
                results += self.read([command], limit_bytes) if command[0] is GET else [fault]
            except StoreError as unreadable:
                results.append(unreadable)
        return results

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
        self._env.close()
        try:
            self._env = open_environment(self._path, synced=self._sync == "always", max_bytes=self._max_bytes)
        except Exception:
            logger.exception("%s: cannot be opened again", self._path)

    def _sync_now_and_then(self) -> None:
        """Be the thread of --sync interval."""
        while not self._closing.wait(SYNC_INTERVAL_S):
            self._sync_once()

    def _sync_once(self) -> None:
        if not self._unsynced:
            return
        self._unsynced = False
        try:
            self._env.sync(True)
        except lmdb.Error as error:
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
        if self._sync != "always":
            self._sync_once()
        self._env.close()


class _NoRoom(Exception):
    """The transaction was undone because the file may not grow."""


def _run(txn: Any, batch: Sequence[Command], limit_bytes: int) -> list[Result]:
    get, replace = txn.get, txn.replace
    results: list[Result] = []
    fetched = 0
    for verb, key, value in batch:
        if verb is GET:
            record = get(key)
            if record is None:
                results.append(None)
            elif record.startswith(RECORD_HEADER):
                results.append(record[_HEADER_BYTES:])
                fetched += len(record)
                if fetched > limit_bytes:
                    break
            else:
                results.append(StoreError("a record was written by a newer version of kvss-gevent, or is damaged"))
        elif verb is PUT:
            # It returns the value replaced; to put without overwriting first, and then with, costs twice as much.
            results.append(replace(key, RECORD_HEADER + value) is None)
        else:
            results.append(txn.delete(key))
    return results


def open_url(rest: str, config: Config) -> DiskStore:
    """Open the store of `disk:PATH`. Raises CannotOpen."""
    return DiskStore(Path(rest), config.sync, config.max_disk_bytes)
