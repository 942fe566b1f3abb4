"""Lets the greenlets of connections wait for a store that works beside them. What it does there is its own affair.

A greenlet hands in its batch and goes back to the event loop. What has arrived by the end of a round of the loop is
handed out together, without an event object and a timer for each wait: those cost as much as the rest of a request.
"""

from collections import deque
from collections.abc import Callable, Sequence
from types import MethodType
from typing import Any, Protocol, runtime_checkable

import gevent
from gevent.hub import get_hub
from greenlet import getcurrent, greenlet

from kvss_gevent.protocol.wire import GET_PREFIX, MAX_KEY_BYTES, OK_PREFIX, REPLY, Status
from kvss_gevent.stores.base import Command, LinesDone, Result, Store, StoreError
from kvss_gevent.stores.lines import commands_of, lines_done

NOT_FOUND = REPLY[Status.NOT_FOUND]

SWEEP_INTERVAL_S = 0.25

Done = Callable[[Any], None]


@runtime_checkable
class ThreadedStore(Store, Protocol):
    """A store that can be asked without waiting; see stores/cluster.py."""

    wait_s: float
    """Whoever asks waits no longer than this."""

    def submit(self, batch: Sequence[Command], limit_bytes: int, done: Done, /) -> None: ...
    def submit_get(self, key: bytes, limit_bytes: int, done: Done, /) -> None: ...
    def submit_count(self, done: Done, /) -> None: ...
    def running_on(self, runtime: Any, /) -> "ThreadedStore": ...


class ParkingStore:
    """The Store over a ThreadedStore, for greenlets of one hub: made and closed in the hub's thread."""

    blocks = True

    def __init__(self, store: ThreadedStore) -> None:
        self.store = store
        hub = get_hub()
        self._loop = hub.loop
        # Hub.switch would first look for a hook on the current greenlet, which a raw greenlet has not.
        self._to_hub = MethodType(greenlet.switch, hub)
        self._arrived: deque[_Ticket] = deque()
        self._called = False
        self._parked: dict[_Ticket, float] = {}
        self._sweeper = gevent.spawn(self._sweep)

    def apply(self, batch: Sequence[Command], limit_bytes: int) -> list[Result]:
        """Run commands in order; see Store."""
        results: list[Result] = self._park(self.store.submit, batch, limit_bytes)
        return results

    def run_lines(self, lines: Sequence[bytes], limit_bytes: int) -> LinesDone:
        """Run request lines in order; see LineStore."""
        line = lines[0]
        if len(lines) == 1 and line.startswith(GET_PREFIX):
            key = line[len(GET_PREFIX) :]
            if 0 < len(key) <= MAX_KEY_BYTES and b" " not in key:  # the most frequent packet takes no detours
                (value,) = self._park(self.store.submit_get, key, limit_bytes)
                return [NOT_FOUND if value is None else OK_PREFIX + value], 0, 0
        batch = commands_of(lines)
        return lines_done(batch, self.apply(batch, limit_bytes)) if batch else ([], 0, 0)

    def count(self) -> int:
        """Return the number of keys. Raises StoreError."""
        number: int = self._park(self.store.submit_count)
        return number

    def close(self) -> None:
        """Close the store below."""
        self._sweeper.kill()
        self.store.close()

    def _park(self, submit: Callable[..., None], *what: Any) -> Any:
        """Call submit with what and a done, and return what is given to that. Raises StoreError."""
        ticket = _Ticket(self)
        submit(*what, ticket.done)
        parked = self._parked
        if not ticket.arrived:
            ticket.greenlet = getcurrent()
            parked[ticket] = self._loop.now() + self.store.wait_s
            try:
                while ticket in parked:
                    self._to_hub()
            finally:
                parked.pop(ticket, None)
        outcome = ticket.outcome
        if isinstance(outcome, StoreError):
            # One of its own: an error that is kept in the frame that raised it lives until the collector comes by.
            raise StoreError(str(outcome))
        return outcome

    def _deliver(self) -> None:
        """Wake the greenlets whose results have arrived; runs in the hub."""
        self._called = False
        arrived, parked = self._arrived, self._parked
        while arrived:
            ticket = arrived.popleft()
            if parked.pop(ticket, None) is not None:
                ticket.greenlet.switch()

    def _wake(self, ticket: "_Ticket") -> None:
        if self._parked.pop(ticket, None) is not None:
            ticket.greenlet.switch()

    def _sweep(self) -> None:
        """Be the greenlet that ends waits that took too long. A timer for each would cost as much as the request."""
        while True:
            gevent.sleep(SWEEP_INTERVAL_S)
            now_s = self._loop.now()
            for ticket, deadline_s in list(self._parked.items()):
                if deadline_s > now_s:
                    break  # the others came later, and all may wait equally long
                ticket.outcome = StoreError(f"no answer within {self.store.wait_s:g} s")
                self._loop.run_callback(self._wake, ticket)

    def arrive(self, ticket: "_Ticket") -> None:
        """Take a ticket that is done; its greenlet is woken by the hub, not by whoever brought the results."""
        self._arrived.append(ticket)
        if not self._called:
            self._called = True
            self._loop.run_callback(self._deliver)


def parked(store: Store) -> Store:
    """Return the same store for greenlets, where the given one works on threads; otherwise itself."""
    if not isinstance(store, ThreadedStore):
        return store
    from kvss_gevent.stores.remote.greenlets import Greenlets

    store.close()
    return ParkingStore(store.running_on(Greenlets()))


class _Ticket:
    """One greenlet's wait."""

    __slots__ = ("arrived", "greenlet", "outcome", "owner")

    def __init__(self, owner: ParkingStore) -> None:
        self.owner = owner
        self.arrived = False
        self.greenlet: Any = None
        self.outcome: Any = None

    def done(self, outcome: Any) -> None:
        """Leave the outcome; called once."""
        self.outcome = outcome
        self.arrived = True
        self.owner.arrive(self)
