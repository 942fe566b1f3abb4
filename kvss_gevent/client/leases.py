"""Which connections of a pool are lent, and who waits for one.

The two pools lock and wait; this module does neither.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Client = TypeVar("Client")


class Leases(Generic[Client]):
    """At most size clients, each lent to one caller.

    The caller that has waited longest is served first. The client used last is lent first, so a quiet pool uses few
    connections.
    """

    def __init__(self, size: int, make: Callable[[], Client]) -> None:
        self.closed = False
        self._size = size
        self._make = make
        self._made = 0
        self._idle: list[tuple[Client, float]] = []
        self._waiting: deque[Callable[[Client], bool]] = deque()

    def take(self) -> tuple[Client, float] | None:
        """Return a free client and for how many seconds it was free; None if all are lent.

        Raises RuntimeError if the pool is closed.
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
        """Join the queue. offer is called with a client that came back, and returns whether it is still wanted."""
        self._waiting.append(offer)

    def give_back(self, client: Client) -> None:
        """Give a client to the caller that has waited longest, or keep it."""
        while self._waiting:
            if self._waiting.popleft()(client):
                return
        self._idle.append((client, time.monotonic()))

    def drain(self) -> list[Client]:
        """Close the pool and return the free clients. Lent ones come back by give_back."""
        self.closed = True
        idle, self._idle = self._idle, []
        return [client for client, _ in idle]
