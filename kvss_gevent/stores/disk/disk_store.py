"""The store on disk: keys and values in an LMDB file. GroupCommit gathers the writes of many clients.

LMDB is copy-on-write: a commit writes new pages, syncs them, then writes one of two meta pages, synced. Readers never
wait and see the last commit. A process that is killed at any point leaves the last commit. From the start the map is as
large as the file may ever become; it is only address space, and costs nothing. It moves only if another server with a
larger --max-disk lets the file grow; see map_lock.py.
"""

import logging
import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lmdb

from kvss_gevent.protocol.wire import DEL, PUT, READING_VERBS
from kvss_gevent.settings.config import Config
from kvss_gevent.stores.base import Batch, Command, Job, ReplyTable, StoreError, run_each, writes
from kvss_gevent.stores.disk.deadlines import NAME as DEADLINES
from kvss_gevent.stores.disk.deadlines import Clock, wall_clock_ms
from kvss_gevent.stores.disk.environment import TRIES, DiskEnvironment
from kvss_gevent.stores.disk.file.data_file import MARKER_KEY
from kvss_gevent.stores.disk.transaction import SERVER_ERROR, NoRoom, RecentReplies, Transaction, reader

logger = logging.getLogger("kvss")

OUR_KEYS = (MARKER_KEY, DEADLINES)
"""Entries in the file that no client has stored. A file that is opened read-only may lack the second."""

RECLAIM_S = 0.002
"""The longest time for deleting keys that have ended without a thread (sync none): all clients wait meanwhile."""

LOG_INTERVAL_S = 10.0
TURN_S = 10.0
"""The longest wait for a checkpoint or another transaction to end before a transaction begins."""

HELD_S = 9.0
"""The longest wait for another process's transaction. GroupCommit gives up later, so the log has this cause."""
HELD_INLINE_S = 2.0
"""The same without a thread (sync none): no other client is served meanwhile."""


class DiskStore:
    """An LMDB file as a Store, for one process or several.

    sync: "always" syncs each transaction before `transact` returns, "interval" once a second, "none" leaves it to the
    kernel. max_bytes bounds the file, 0 is no bound. `read` may run beside a `transact` of another thread; `transact`
    is for one thread at a time. Raises CannotOpen.
    """

    run = put = None
    blocks = True

    def __init__(self, path: Path, sync: str = "always", max_bytes: int = 0, clock: Clock = wall_clock_ms) -> None:
        self.replies = ReplyTable()
        self.environment = DiskEnvironment(path, sync, max_bytes, clock)
        self._sync = sync
        self._recent = RecentReplies(self.environment)
        self._on_one_thread = False
        self.refusing = False
        """Whether the last write was refused; the log has said so."""
        self._refused_logged_s = float("-inf")

    @property
    def path(self) -> Path:
        """The path of the file, without symbolic links."""
        return self.environment.path

    @property
    def identity(self) -> tuple[int, int]:
        """Device and inode of the open file."""
        return self.environment.identity

    @property
    def expired_keys(self) -> int:
        """How many keys have ended and been replaced or deleted, by this process."""
        return self.environment.expired_keys

    def on_one_thread(self) -> ReplyTable:
        """Return the remembered replies, for a caller whose calls of this store are all on one thread from now on."""
        self._on_one_thread = True
        return self._recent.table

    def apply(self, batch: Batch, limit_bytes: int) -> list[bytes]:
        """Run commands in order, those that write in a transaction; see Store. Waits for the disk."""
        if not writes(batch):
            return self.read(batch, limit_bytes)
        return self.transact([(batch, limit_bytes)])[0]

    def read(self, batch: Batch, limit_bytes: int) -> list[bytes]:
        """Run GETs and TTLs on the last committed state, without waiting for a writer. Raises StoreError."""
        environment = self.environment
        reading = environment.map.reading
        # The same as look, without its function calls, which take 1.5 times as long as the rest. look does rare cases.
        if not environment.unreadable and reading.acquire(False):
            try:
                with environment.handle.begin() as txn:
                    recent = self._recent.at(txn.id()) if self._on_one_thread else None
                    return run_each(reader(txn, environment.deadlines, recent), batch, limit_bytes)
            except lmdb.Error:
                pass
            finally:
                reading.release()
        return environment.look(lambda txn: run_each(reader(txn, environment.deadlines, None), batch, limit_bytes))

    def begin(self) -> Transaction:
        """Begin a write transaction. Raises StoreError if nothing can be written now, and lmdb.Error."""
        environment = self.environment
        writing = environment.map.writing
        cause = environment.lost or environment.unsyncable
        if not cause and not writing.acquire(timeout=TURN_S):
            cause = f"another transaction has not ended for {TURN_S:g} s"
        if cause:
            raise StoreError(cause)
        try:
            mutex = environment.write_mutex
            if mutex and mutex.word[0] and environment.writer_hangs(held_s := self._held_s()):
                raise StoreError(f"another process has not ended its transaction for {held_s:g} s")
            file = environment.file
            # A call for the first look would cost more than the look, and fstat three times as much as lseek.
            if file.descriptor is not None and os.lseek(file.descriptor, 0, os.SEEK_END) < file.seen_bytes:
                environment.check_whole()
            return Transaction(environment, self._recent, RECLAIM_S if self._sync == "none" else math.inf)
        except BaseException:
            writing.release()
            raise

    def _held_s(self) -> float:
        return HELD_INLINE_S if self._sync == "none" else HELD_S

    def transact(self, jobs: Sequence[Job], tries: int = TRIES) -> list[list[bytes]]:
        """Run jobs, each a batch with its limit_bytes, in order and in one transaction; return the replies of each.

        On return the writes are committed, and synced as this store promises. Commands that failed get 500. If the disk
        fails, all writes have failed. If there is no room, only those have that need room: each job then gets its own
        transaction, and if needed each command. Never raises StoreError. tries: the most transactions.
        """
        try:
            transaction = self.begin()
        except StoreError as error:
            return [self._refuse(job, str(error)) for job in jobs]
        except lmdb.Error as error:
            return self._after_fault(error, jobs, tries - 1)
        try:
            replies = [run_each(transaction.run, batch, limit_bytes) for batch, limit_bytes in jobs]
            transaction.commit()
        except BaseException as error:
            fault = transaction.undo(error)
            if not isinstance(fault, lmdb.Error | NoRoom):
                raise
            return self._after_fault(fault, jobs, tries - 1)
        if self.refusing and any(verb == PUT for batch, _ in jobs for verb, _, _ in batch):
            logger.warning("%s: writes work again", self.path)
            self.refusing = False
        return replies

    def _after_fault(self, fault: "lmdb.Error | NoRoom", jobs: Sequence[Job], tries: int) -> list[list[bytes]]:
        """Remove what made a transaction fail and run its jobs again, together or alone; refuse jobs that fail."""
        cause = str(fault)
        again = False
        if isinstance(fault, lmdb.MapResizedError):
            try:
                self.environment.follow_map()
                again = True
            except StoreError as error:
                cause = str(error)
        elif isinstance(fault, lmdb.Error):
            self.environment.check_damage(fault)
            self.environment.mend()
        elif self._sync == "interval" and self.environment.unsynced:
            self.environment.sync()  # this frees the pages that only the last checkpoint needed
            again = True
        elif len(jobs) > 1:
            return [self.transact([job])[0] for job in jobs]
        elif len(jobs[0][0]) > 1:
            return [_one_by_one(jobs[0], lambda command: self.transact([([command], 0)])[0])]
        else:
            again = jobs[0][0][0][0] == DEL and self.environment.reserve.release()
        if again and tries > 0:
            return self.transact(jobs, tries)
        return [self._refuse(job, cause) for job in jobs]

    def mend(self, fault: BaseException) -> None:
        """Mend what has made a transaction fail whose commands are not run again, and log the fault."""
        if isinstance(fault, lmdb.Error):
            self.environment.check_damage(fault)
            self.environment.mend()
        self._log_refusal(str(fault))

    def _log_refusal(self, cause: str) -> None:
        """Log once that writes fail."""
        now_s = time.monotonic()
        if not self.refusing and not self.environment.lost and now_s - self._refused_logged_s >= LOG_INTERVAL_S:
            self._refused_logged_s = now_s
            self.refusing = True
            logger.error("%s: writes get 500, reads go on: %s", self.path, cause)

    def _refuse(self, job: Job, cause: str) -> list[bytes]:
        """Answer a job whose writes failed: they get 500, and its GETs are read."""
        self._log_refusal(cause)
        return _one_by_one(
            job, lambda command: self.read([command], 0) if command[0] in READING_VERBS else [SERVER_ERROR]
        )

    def count(self) -> int:
        """Return the number of keys stored. Raises StoreError."""
        return self.environment.look(self._count)

    def _count(self, txn: Any) -> int:
        entries: int = txn.stat()["entries"]
        ours = sum(txn.get(key) is not None for key in OUR_KEYS)
        return entries - ours - self.environment.deadlines.ended(txn)

    def has_ended(self) -> bool:
        """Tell whether a transaction would delete keys that have ended."""
        environment = self.environment
        if environment.lost or environment.unsyncable or environment.readonly:
            return False
        try:
            return environment.look(lambda txn: environment.deadlines.ended(txn, 1) > 0)
        except StoreError:  # a GET says so
            return False

    def close(self) -> None:
        """Sync what is not synced, and release the file; a second call does nothing."""
        self.environment.close()


def _one_by_one(job: Job, run_one: Callable[[Command], list[bytes]]) -> list[bytes]:
    """Run each command of a job on its own, with the same bound on what is fetched."""
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
