"""Timed wrappers for what may wait inside a call: the store and the laboratory's commands, for one conversation."""

from kvss_gevent.core.lab_commands import Lab
from kvss_gevent.stores.base import Batch, Store
from kvss_gevent.trace.events import HEAD_BYTES, Clock, Note, What

COMPUTES = b"BURN"


class TimedStore:
    """Notes every batch that one conversation gives to a store."""

    blocks = True
    run = put = None

    def __init__(self, store: Store, number: int, note: Note, clock: Clock) -> None:
        self.replies = store.replies
        self._store, self._number, self._note, self._clock = store, number, note, clock

    def apply(self, batch: Batch, limit_bytes: int) -> list[bytes]:
        """Run commands in order; see Store."""
        began = self._clock()
        try:
            return self._store.apply(batch, limit_bytes)
        finally:
            self._note((What.STORE, self._number, began, self._clock(), len(batch), 0, b""))

    def count(self) -> int:
        """Return the number of keys stored."""
        return self._store.count()

    def close(self) -> None:
        """Release what the store holds."""
        self._store.close()


class TimedLab:
    """Notes every command of the laboratory that one conversation runs."""

    def __init__(self, lab: Lab, number: int, note: Note, clock: Clock) -> None:
        self._lab, self._number, self._note, self._clock = lab, number, note, clock

    def run(self, line: bytes) -> bytes | None:
        """Run a request line and return its reply line; None if it is not a well-formed lab command."""
        began = self._clock()
        reply = self._lab.run(line)
        if reply is not None:
            what = What.COMPUTE if COMPUTES in line[:HEAD_BYTES] else What.BLOCK
            self._note((what, self._number, began, self._clock(), len(line), 0, line[:HEAD_BYTES]))
        return reply
