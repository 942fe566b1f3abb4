"""Turn commit: the writes of one turn of the event loop become one transaction of the disk store.

This is for files that are not synced. A write goes into the transaction at once, as into memory, and nobody waits. The
replies of the turn are sent after its commit; see server/outbox.py. So no client sees what is not committed.
"""

import logging
import math
import time

import gevent
import lmdb

from kvss_gevent.protocol.wire import READING_VERBS
from kvss_gevent.stores.base import Batch, Run, StoreError, run_each
from kvss_gevent.stores.disk.disk_store import DiskStore
from kvss_gevent.stores.disk.group_commit import NO_CHANGE
from kvss_gevent.stores.disk.transaction import NoRoom, Transaction

logger = logging.getLogger("kvss")

TRANSACTION_BYTES = 2 << 20
"""What one transaction may write. Then it is committed, and the next one begins."""
COMMAND_BYTES = 4 << 10
"""What a command counts beside its value: a page of the file."""
ROOM_BYTES = 16 << 20
"""With less room in the file or on the disk, each command has its own transaction.

A transaction of a turn may write twice TRANSACTION_BYTES, and pages that the last two have freed cannot be reused yet.
"""
APART_S = 1.0
"""How long each command has its own transaction after a fault, or after there was little room."""


class TurnCommit:
    """A Store for the greenlets of one hub, on a disk store that only this thread calls.

    A fault fails all commands of a transaction. So where there is little room, and after a fault, each command has its
    own: then what needs no room still works.
    """

    put = None
    blocks = False

    def __init__(self, store: DiskStore) -> None:
        self._store = store
        self.replies = store.on_one_thread()
        self.run: Run = self._run
        self._run_at_the_end = gevent.get_hub().loop.run_callback
        self._transaction: Transaction | None = None
        self._left_bytes = 0
        self._apart_until_s = -math.inf
        self._failed = False
        """Whether a transaction has failed since the last `commit`."""

    def _run(self, verb: int, key: bytes, value: bytes) -> bytes:
        """Run one command. Raises StoreError."""
        transaction = self._transaction
        if transaction is None and verb not in READING_VERBS:
            transaction = self._begin()
        if transaction is None:
            return self._store.apply([(verb, key, value)], 0)[0]
        try:
            reply = transaction.run(verb, key, value)
        except BaseException as fault:
            raise self._undone(fault) from None
        self._left_bytes = left_bytes = self._left_bytes - len(value) - COMMAND_BYTES
        if left_bytes < 0:
            self._end()
        return reply

    def _begin(self) -> Transaction | None:
        """Begin the transaction of this turn; return None if each command is to have its own."""
        if self._store.refusing or time.monotonic() < self._apart_until_s:
            return None
        try:
            transaction = self._store.begin()
        except (StoreError, lmdb.Error):
            return None  # the command meets the same fault, and mends or explains it
        if not transaction.has_room(ROOM_BYTES):
            self._apart_until_s = time.monotonic() + APART_S
            transaction.abort()
            return None
        self._transaction = transaction
        self._left_bytes = TRANSACTION_BYTES
        self._run_at_the_end(self._end)
        return transaction

    def _end(self) -> None:
        """Commit the transaction of this turn, if there is one."""
        if self._transaction is not None:
            try:
                self._transaction.commit()
                self._transaction = None
            except BaseException as fault:
                self._undone(fault)

    def _undone(self, fault: BaseException) -> StoreError:
        """Undo the transaction of this turn, which has failed; return the fault for the command that met it."""
        assert self._transaction
        fault = self._transaction.undo(fault)
        self._transaction = None
        self._failed = True
        self._apart_until_s = time.monotonic() + APART_S
        if not isinstance(fault, lmdb.Error | NoRoom):
            logger.error("an error in this store fails the writes of one turn", exc_info=fault)
        self._store.mend(fault)
        error = StoreError(str(fault))
        error.logged = True
        return error

    def commit(self) -> bool:
        """Commit what was run, before it is replied to; return whether all since the last call is committed."""
        if self._transaction is not None:
            self._end()
        failed, self._failed = self._failed, False
        return not failed

    def apply(self, batch: Batch, limit_bytes: int) -> list[bytes]:
        """Run commands in order; see Store. Raises StoreError."""
        return run_each(self.run, batch, limit_bytes)

    def count(self) -> int:
        """Return the number of keys stored. Raises StoreError."""
        self._end()
        return self._store.count()

    @property
    def expired_keys(self) -> int:
        """How many keys have ended and been replaced or deleted."""
        return self._store.expired_keys

    def reclaim(self, _: int) -> bool:
        """Delete some keys that have ended, in a transaction; return whether that worked and there are more."""
        self._end()
        if not self._store.has_ended():
            return False
        before = self._store.expired_keys
        self._store.transact([(NO_CHANGE, 0)])
        return self._store.expired_keys > before and self._store.has_ended()

    def close(self) -> None:
        """Commit what was run and close the store; a second call does nothing."""
        self._end()
        self.run = _closed
        self._store.close()


def _closed(*_: object) -> bytes:
    raise StoreError("the store is closed")
