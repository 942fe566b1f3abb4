"""Lets the greenlets of connections wait for a remote store. Its nodes have greenlets of their own.

A greenlet hands in its batch and goes back to the hub. At the end of a round of the event loop all outcomes that have
arrived are handed out together. There is no event object and no timer for each wait: those cost as much as the rest of
a request.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import gevent
from greenlet import getcurrent

from kvss_gevent.protocol.wire import GET
from kvss_gevent.stores.base import Batch, ReplyTable, Store, StoreError
from kvss_gevent.stores.hub_wait import Wait, hub_switch

SWEEP_INTERVAL_S = 0.25

Done = Callable[[Any], None]


@runtime_checkable
class AskedStore(Store, Protocol):
    """A store that takes a batch without waiting, and tells the outcome later; see RemoteStore."""

    wait_s: float
    """The longest wait for an outcome."""

    def submit(self, batch: Batch, limit_bytes: int, done: Done, /) -> None: ...
    def submit_get(self, key: bytes, limit_bytes: int, done: Done, /) -> None: ...
    def submit_count(self, done: Done, /) -> None: ...
    def running_on(self, runtime: Any, /) -> "AskedStore": ...


class GreenletStore:
    """The Store over an AskedStore, for the greenlets of one hub. It is made and closed in the hub's thread."""

    run = put = None
    blocks = True

    def __init__(self, store: AskedStore) -> None:
        self.replies = ReplyTable()
        self.store = store
        self._loop = gevent.get_hub().loop
        self._switch_to_hub = hub_switch()
        self._arrived: deque[tuple[Wait, Any]] = deque()
        self._called = False
        self._waits: dict[Wait, float] = {}
        self._sweeper = gevent.spawn(self._sweep)

    def apply(self, batch: Batch, limit_bytes: int) -> list[bytes]:
        """Run commands in order; see Store."""
        replies: list[bytes]
        if len(batch) == 1 and batch[0][0] == GET:  # the most frequent batch, a single GET, takes a shorter way
            replies = self._wait_for(self.store.submit_get, batch[0][1], limit_bytes)
        else:
            replies = self._wait_for(self.store.submit, batch, limit_bytes)
        return replies

    def count(self) -> int:
        """Return the number of keys. Raises StoreError."""
        number: int = self._wait_for(self.store.submit_count)
        return number

    def close(self) -> None:
        """Close the store below."""
        self._sweeper.kill()
        self.store.close()

    def _wait_for(self, submit: Callable[..., None], *what: Any) -> Any:
        """Call submit with `what` and a `done`, wait, and return what `done` is called with. Raises StoreError."""
        wait = Wait()
        wait.greenlet = getcurrent()
        wait.outcome = None

        def done(outcome: Any) -> None:
            # The hub wakes the greenlet, not the caller of done.
            self._arrived.append((wait, outcome))
            if not self._called:
                self._called = True
                self._loop.run_callback(self._deliver)

        submit(*what, done)
        self._waits[wait] = self._loop.now() + self.store.wait_s
        try:
            while wait.outcome is None:
                self._switch_to_hub()
        finally:
            wait.greenlet = None
            del self._waits[wait]
        if isinstance(wait.outcome, StoreError):
            # A new error each time: one that its own frame refers to stays in memory until the garbage collector runs.
            raise StoreError(str(wait.outcome))
        return wait.outcome

    def _deliver(self) -> None:
        """Wake the greenlets whose outcomes have arrived; runs in the hub."""
        self._called = False
        while self._arrived:
            wait, outcome = self._arrived.popleft()
            wait.finish(outcome)

    def _sweep(self) -> None:
        """Run the greenlet that ends waits that took too long. A timer for each would cost as much as the request."""
        while True:
            gevent.sleep(SWEEP_INTERVAL_S)
            now_s = self._loop.now()
            for wait, deadline_s in list(self._waits.items()):
                if deadline_s > now_s:
                    break  # the others came later, and all waits may take equally long
                self._loop.run_callback(wait.finish, StoreError(f"no answer within {self.store.wait_s:g} s"))


def for_greenlets(store: Store) -> Store:
    """Return the same store for greenlets, if the given one works on threads; otherwise the given one."""
    if not isinstance(store, AskedStore):
        return store
    from kvss_gevent.stores.remote.greenlets import Greenlets

    store.close()
    return GreenletStore(store.running_on(Greenlets()))
