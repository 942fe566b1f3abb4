"""Group commit: the writes of many greenlets become one transaction of the disk store, on a thread of its own.

While the thread commits one transaction, new writes are gathered. The next transaction takes all of them as soon as the
event loop is idle. So a disk that syncs 2,000 times a second acknowledges 2,000 writes a second for each waiting
client.
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import gevent
from greenlet import getcurrent

from kvss_gevent.protocol.wire import DEL, READING_VERBS
from kvss_gevent.stores.base import Batch, Job, ReplyTable, Store, StoreError
from kvss_gevent.stores.hub_wait import Wait, hub_switch

logger = logging.getLogger("kvss")

NO_CHANGE: Batch = [(DEL, b" ", b"\n")]
"""A batch that writes nothing: no client's key has a space."""

MAX_WAITING_BYTES = 64 << 20
MAX_TRANSACTION_JOBS = 1024
LATEST_S = 0.001
STALL_S = 10.0
CLOSE_S = 10.0


@runtime_checkable
class TransactionStore(Store, Protocol):
    """A store with transactions: DiskStore, and its doubles in tests."""

    def read(self, batch: Batch, limit_bytes: int) -> list[bytes]:
        """Run GETs on the last committed state; must not wait. Raises StoreError."""
        ...

    def transact(self, jobs: Sequence[Job]) -> list[list[bytes]]:
        """Run jobs in one transaction and return the replies of each."""
        ...

    def has_ended(self) -> bool:
        """Tell whether a transaction would delete keys that have ended; must not wait."""
        ...

    @property
    def expired_keys(self) -> int:
        """How many keys have ended and been replaced or deleted."""
        ...


class GroupCommit:
    """A Store for the greenlets of one hub: GETs are read at once, batches that write share transactions.

    Transactions run on one OS thread, and the hub goes on while one syncs. A batch gets 500 at once if
    max_waiting_bytes of values already wait, or if one transaction has taken stall_s. A transaction waits no longer
    than latest_s for the event loop to be idle.
    """

    run = put = None
    blocks = True

    def __init__(
        self,
        store: TransactionStore,
        *,
        max_waiting_bytes: int = MAX_WAITING_BYTES,
        stall_s: float = STALL_S,
        latest_s: float = LATEST_S,
    ) -> None:
        self.replies = ReplyTable()
        self._store = store
        self._loop = gevent.get_hub().loop
        self._switch_to_hub = hub_switch()
        self._max_waiting_bytes = max_waiting_bytes
        self._waiting: list[Wait] = []
        """Each has asked for (job, bytes of its values)."""
        self._waiting_bytes = 0
        self._running: list[Wait] = []
        self._scheduled = False
        self._stalled = False
        self._closed = False
        self._thread = _Thread(self._loop, self._finish)
        self._when_idle = self._loop.idle()
        self._at_latest: Any = None
        self._latest_s = latest_s
        self._stall: Any = None
        self._stall_s = stall_s

    def apply(self, batch: Batch, limit_bytes: int) -> list[bytes]:
        """Run commands in order; see Store. Lets other greenlets run if the batch writes. Raises StoreError."""
        size_bytes = 0
        only_reads = True
        for verb, _, value in batch:
            if verb not in READING_VERBS:
                only_reads = False
                size_bytes += len(value)
        if only_reads:
            return self._store.read(batch, limit_bytes)
        if self._closed:
            raise StoreError("the store is closed")
        if self._stalled:
            raise StoreError(f"the disk has not answered for {self._stall_s:g} s")
        if self._waiting_bytes + size_bytes > self._max_waiting_bytes and self._waiting:
            raise StoreError(f"more writes wait for the disk than {self._max_waiting_bytes} bytes")
        wait = Wait()
        wait.asked = (batch, limit_bytes), size_bytes
        wait.greenlet = getcurrent()
        wait.outcome = None
        self._waiting.append(wait)
        self._waiting_bytes += size_bytes
        if not self._scheduled and not self._running:
            self._schedule()
        try:
            while wait.outcome is None:
                self._switch_to_hub()
        finally:
            wait.greenlet = None
        if isinstance(wait.outcome, StoreError):
            raise wait.outcome
        replies: list[bytes] = wait.outcome
        return replies

    def _schedule(self) -> None:
        """Begin a transaction once the event loop is idle, so that it takes all writes that have arrived.

        By then the next writes of clients that were just answered have arrived. If it began earlier, two groups of
        clients would take turns: half as much in each transaction, and a quarter more CPU for each write.
        """
        self._scheduled = True
        self._when_idle.start(self._begin)
        self._at_latest = self._loop.timer(self._latest_s)
        self._at_latest.start(self._begin)

    def _begin(self) -> None:
        self._scheduled = False
        self._when_idle.stop()
        self._at_latest.close()
        if not self._waiting:
            return
        self._running, self._waiting = self._waiting[:MAX_TRANSACTION_JOBS], self._waiting[MAX_TRANSACTION_JOBS:]
        jobs = []
        for wait in self._running:
            job, size_bytes = wait.asked
            jobs.append(job)
            self._waiting_bytes -= size_bytes
        # A new timer each time: one that was stopped and is started again has only the rest of its time left.
        self._stall = self._loop.timer(self._stall_s)
        self._stall.start(self._give_up)
        self._thread.start(self._store, jobs)

    def _finish(self, outcome: "list[list[bytes]] | Exception") -> None:
        """Give each wait its result, and schedule the next transaction."""
        if self._stall is not None:
            self._stall.close()
            self._stall = None
        if self._stalled:
            self._stalled = False
            logger.warning("the disk answers again")
        waits, self._running = self._running, []
        if self._waiting and not self._scheduled:
            self._schedule()
        if isinstance(outcome, Exception):
            for wait in waits:
                wait.finish(StoreError(str(outcome)))
            return
        for wait, replies in zip(waits, outcome, strict=True):
            wait.finish(replies)

    def _give_up(self) -> None:
        """Give all waits an error, because the disk does not answer. Their writes may still take effect (rule 10)."""
        self._stalled = True
        logger.error("the disk has not answered for %g s: PUT and DEL get 500, reads go on", self._stall_s)
        waits = [*self._running, *self._waiting]
        self._waiting.clear()
        self._waiting_bytes = 0
        for wait in waits:
            fault = StoreError(f"the disk has not answered for {self._stall_s:g} s")
            fault.logged = True
            wait.finish(fault)

    def count(self) -> int:
        """Return the number of keys stored."""
        return self._store.count()

    @property
    def expired_keys(self) -> int:
        """How many keys have ended and been replaced or deleted."""
        return self._store.expired_keys

    def reclaim(self, _: int) -> bool:
        """Delete some keys that have ended, in a transaction; return whether that worked and there are more."""
        if not self._store.has_ended():
            return False
        with contextlib.suppress(StoreError):
            before = self._store.expired_keys
            self.apply(NO_CHANGE, 0)
            return self._store.expired_keys > before and self._store.has_ended()
        return False

    def close(self) -> None:
        """Commit what waits, end the thread and close the store; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        with gevent.Timeout(CLOSE_S, False):
            while self._running or self._waiting:
                gevent.sleep(0.005)
        if self._running:
            logger.error("the disk did not answer: the last writes may be lost")
            return
        self._thread.end()
        self._when_idle.close()
        self._store.close()


class _Thread:
    """One OS thread that runs one transaction at a time and tells the event loop when it is done."""

    def __init__(self, loop: Any, done: "Callable[[list[list[bytes]] | Exception], None]") -> None:
        self._todo: tuple[TransactionStore, list[Job]] | None = None
        self._outcome: list[list[bytes]] | Exception = []
        self._wake = threading.Semaphore(0)
        self._done = done
        self._watcher = loop.async_()
        self._thread = threading.Thread(target=self._run, name="kvss-commit", daemon=True)
        self._thread.start()

    def start(self, store: TransactionStore, jobs: list[Job]) -> None:
        """Run store.transact(jobs); the outcome is given to `done` in the hub."""
        self._todo = store, jobs
        self._watcher.start(self._tell)
        self._wake.release()

    def _run(self) -> None:
        while True:
            self._wake.acquire()
            if self._todo is None:
                return
            self._outcome = _attempt(*self._todo)
            self._watcher.send()

    def _tell(self) -> None:
        self._watcher.stop()
        self._done(self._outcome)

    def end(self) -> None:
        """End the thread, which must have nothing to do."""
        self._todo = None
        self._wake.release()
        self._thread.join()
        self._watcher.close()


def _attempt(store: TransactionStore, jobs: list[Job]) -> list[list[bytes]] | Exception:
    try:
        return store.transact(jobs)
    except StoreError as fault:
        return fault
    except Exception as mistake:
        logger.exception("an error in this store fails %d batches", len(jobs))
        return mistake
