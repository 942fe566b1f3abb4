"""The default store: a dict in this process, lost when it ends, as in the course document."""

from collections.abc import Sequence

from kvss_gevent.protocol.wire import GET_PREFIX, MAX_KEY_BYTES, OK_PREFIX, REPLY, VERSION, Status, Verb
from kvss_gevent.settings.config import Config
from kvss_gevent.stores.base import QUICK_LINE_BYTES, CannotOpen, Command, Result, StoreError

OK, CREATED = REPLY[Status.OK], REPLY[Status.CREATED]
_PREFIX_BYTES = len(OK_PREFIX)

ENTRY_OVERHEAD_BYTES = 200
"""What an entry costs beside its bytes: two object headers, rounding, its share of a dict that has just grown."""


def open_url(rest: str, config: Config) -> "MemoryStore":
    """Return the store of `memory:`, bounded by config.max_memory_bytes. Raises CannotOpen."""
    if rest:
        raise CannotOpen(f"memory: is followed by {rest!r}", "Write --store memory: with nothing after it.", usage=True)
    return MemoryStore(config.max_memory_bytes or None)


class MemoryStore:
    """A dict from request line to reply line (see InlineStore), with an optional bound on memory.

    max_bytes counts request and reply lines and ENTRY_OVERHEAD_BYTES for each key; past it PUT raises StoreError
    while GET and DEL go on. None is no bound.
    """

    blocks = False

    def __init__(self, max_bytes: int | None = None) -> None:
        self.replies: dict[bytes, bytes] = {}
        self.largest_reply_bytes = QUICK_LINE_BYTES
        self.used_bytes = 0
        self.line_puts = 0
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

    def put_line(self, line: bytes) -> bytes | None:
        """Run a whole request line if it is a PUT; see InlineStore. To parse first and then put costs 0.2 us more."""
        try:
            version, verb, key, value = line.split(b" ", 3)
        except ValueError:
            return None
        if verb != b"PUT" or version != VERSION or not value or not 0 < len(key) <= MAX_KEY_BYTES:
            return None
        if len(line) > QUICK_LINE_BYTES:
            return None
        request = GET_PREFIX + key
        reply = OK_PREFIX + value
        replies = self.replies
        old = replies.get(request)
        if old is None or len(old) != len(reply):
            try:
                self._grow(len(reply) - len(old) if old else len(request) + len(reply) + ENTRY_OVERHEAD_BYTES, reply)
            except StoreError:
                return None
        replies[request] = reply
        self.line_puts += 1
        return CREATED if old is None else OK

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
