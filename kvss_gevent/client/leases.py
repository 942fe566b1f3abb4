"""Who holds which connection of a pool, and who is next. This module neither locks nor waits: the two pools do."""

import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Client = TypeVar("Client")


class Leases(Generic[Client]):
    """At most size clients, lent to one holder each; who waits longest is served first.

    The client used last is lent first, so that a quiet pool keeps few connections busy.
    """

    def __init__(self, size: int, make: Callable[[], Client]) -> None:
        self.closed = False
        self._size = size
        self._make = make
        self._made = 0
        self._idle: list[tuple[Client, float]] = []
        self._waiting: deque[Callable[[Client], bool]] = deque()

    def take(self) -> tuple[Client, float] | None:
        """Return a client that nobody holds and for how many seconds nobody did; None where all are lent.

        Raises RuntimeError for a pool that is closed.
        """
        if self.closed:
            raise RuntimeError("this pool is closed")
        if self._idle:
            client, since = self._idle.pop()
            return client, time.monotonic() - since
        if self._made == self._size:
            return None
        self._made += 1
        return self._make(), 0.0

    def wait(self, offer: Callable[[Client], bool]) -> None:
        """Stand in the queue: offer is called with a client that came back, and tells whether it is still wanted."""
        self._waiting.append(offer)

    def give_back(self, client: Client) -> None:
        """Hand a client to who waits longest, or keep it."""
        while self._waiting:
            if self._waiting.popleft()(client):
                return
        self._idle.append((client, time.monotonic()))

    def drain(self) -> list[Client]:
        """Close the pool and return the clients that nobody holds; those that are lent come back to give_back."""
        self.closed = True
        idle, self._idle = self._idle, []
        return [client for client, _ in idle]
