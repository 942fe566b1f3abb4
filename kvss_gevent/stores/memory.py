"""The default store: a dict in this process, lost when it ends, as in the course document."""

from collections.abc import Sequence

from kvss_gevent.stores.base import Command, Result, StoreError
from kvss_gevent.wire import GET_PREFIX, OK_PREFIX, Verb

_PREFIX_BYTES = len(OK_PREFIX)

ENTRY_OVERHEAD_BYTES = 200
"""What an entry costs beside its bytes: two object headers, allocator rounding, its share of the dict at its emptiest."""


class MemoryStore:
    """A dict from request line to reply line (see InlineStore), with an optional bound on memory.

    max_bytes counts request and reply lines and ENTRY_OVERHEAD_BYTES for each key; past it PUT raises StoreError
    while GET and DEL go on. None is no bound.
    """

    blocks = False

    def __init__(self, max_bytes: int | None = None) -> None:
        self.replies: dict[bytes, bytes] = {}
        self.largest_reply_bytes = 0
        self.used_bytes = 0
        self._max_bytes = float("inf") if max_bytes is None else max_bytes

    def put(self, key: bytes, value: bytes) -> bool:
        """Store a value; return True where the key is new. Raises StoreError where memory is used up."""
        request = GET_PREFIX + key
        reply = OK_PREFIX + value
        old = self.replies.get(request)
        if old is None:
            self._grow(len(request) + len(reply) + ENTRY_OVERHEAD_BYTES, reply)
        elif len(old) != len(reply):
            self._grow(len(reply) - len(old), reply)
        self.replies[request] = reply
        return old is None

    def _grow(self, grown_bytes: int, reply: bytes) -> None:
        used_bytes = self.used_bytes + grown_bytes
        if used_bytes > self._max_bytes and grown_bytes > 0:
            raise StoreError(f"the memory store is full: {self.used_bytes} of {self._max_bytes} bytes are used")
        self.used_bytes = used_bytes
        self.largest_reply_bytes = max(self.largest_reply_bytes, len(reply))

    def delete(self, key: bytes) -> bool:
        """Forget a key; return True where it was there."""
        request = GET_PREFIX + key
        old = self.replies.pop(request, None)
        if old is None:
            return False
        self.used_bytes -= len(request) + len(old) + ENTRY_OVERHEAD_BYTES
        return True

    def get(self, key: bytes) -> bytes | None:
        """Return a value or None."""
        reply = self.replies.get(GET_PREFIX + key)
        return None if reply is None else reply[_PREFIX_BYTES:]

    def apply(self, batch: Sequence[Command], limit_bytes: int) -> list[Result]:
        """Run commands in order; see Store."""
        results: list[Result] = []
        fetched = 0
        for verb, key, value in batch:
            if verb is Verb.GET:
                found = self.get(key)
                fetched += len(found or b"")
                results.append(found)
            elif verb is Verb.PUT:
                results.append(self.put(key, value))
            else:
                results.append(self.delete(key))
            if fetched > limit_bytes:
                break
        return results

    def count(self) -> int:
        """Return the number of keys stored."""
        return len(self.replies)

    def close(self) -> None:
        """Do nothing: there is nothing to release."""
