"""What one of several worker processes knows of the others."""

import contextlib
import os
from dataclasses import dataclass

from kvss_gevent.core.address_counts import AddressCounts
from kvss_gevent.core.shared_counters import SharedCounters, WorkerCounters


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """What a worker gets from its parent: its number, the counters of all workers, and two pipes."""

    number: int
    shared: SharedCounters
    parent_gone: int
    """A descriptor that becomes readable when the parent is dead."""
    _ready: int

    @property
    def counters(self) -> WorkerCounters:
        """This worker's counters."""
        return self.shared.counters[self.number]

    @property
    def colleagues(self) -> list[WorkerCounters]:
        """The counters of the other workers."""
        return [counters for number, counters in enumerate(self.shared.counters) if number != self.number]

    @property
    def addresses(self) -> AddressCounts:
        """The connections of each address, as this worker counts them."""
        return self.shared.addresses[self.number]

    def someone_is_freer(self) -> bool:
        """Whether another worker should take a new client."""
        return self.shared.someone_is_freer(self.number)

    def ready(self) -> None:
        """Tell the parent that this worker accepts connections."""
        with contextlib.suppress(OSError):
            os.write(self._ready, b"r")
