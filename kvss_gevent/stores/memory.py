"""The default store: a dict in this process, lost when it ends, as in the course document."""

import sys
import time
from collections.abc import Callable

from kvss_gevent.protocol.wire import DEL, EXPIRE, GET, GET_LINE, LINE, OK_PREFIX, PUT, PUTEX, TTL, Status
from kvss_gevent.settings.config import Config
from kvss_gevent.stores.base import Batch, CannotOpen, Put, ReplyTable, Run, StoreError, run_each, split_seconds
from kvss_gevent.stores.expiry import ExpiringKeys

OK, CREATED, NO_CONTENT = LINE[Status.OK], LINE[Status.CREATED], LINE[Status.NO_CONTENT]
NOT_FOUND = LINE[Status.NOT_FOUND]

ENTRY_OVERHEAD_BYTES = 200
"""What an entry costs besides its bytes: two object headers, rounding, its share of a dict that has just grown."""
COUNTING_KEYS = 64
COUNTING_S = 0.001
"""count() forgets ended keys for this long, some between two looks at the clock, for servers without a timer."""


def open_url(rest: str, config: Config) -> "MemoryStore":
    """Return the store of `memory:`, bounded by config.max_memory_bytes. Raises CannotOpen."""
    if rest:
        raise CannotOpen(f"memory: is followed by {rest!r}", "Write --store memory: with nothing after it.", usage=True)
    return MemoryStore(config.max_memory_bytes or None)


class MemoryStore:
    """A dict from request line to reply line, with an optional bound on memory.

    max_bytes counts request and reply lines and ENTRY_OVERHEAD_BYTES for each key. Past it PUT fails, while GET and DEL
    go on. None is no bound. A key that expires is not in the dict, so look-ups there need not check deadlines.
    """

    blocks = False

    def __init__(self, max_bytes: int | None = None, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._max_bytes = sys.maxsize if max_bytes is None else max_bytes
        self.replies = ReplyTable(room_bytes=self._max_bytes)
        self._expiring = ExpiringKeys(self._forgotten, clock)
        self.run: Run = self._run
        self.put: Put = self._put
        """Attributes, because each look-up of a method makes an object, and sessions look it up for every packet."""

    def _run(self, verb: int, key: bytes, value: bytes) -> bytes:
        """Run one command and return its reply line. Raises StoreError for a PUT for which there is no memory."""
        request = GET_LINE % key
        if verb is PUT:
            return self.put(request, OK_PREFIX + value)
        replies = self.replies
        old = replies.get(request)
        if old is None and self._expiring.count and request in self._expiring:
            return self._run_expiring(verb, request, value)
        if verb is GET:
            return NOT_FOUND if old is None else old
        if verb is not DEL:
            return self._run_expiring(verb, request, value)
        if old is None:
            return NOT_FOUND
        del replies[request]
        replies.room_bytes += len(request) + len(old) + ENTRY_OVERHEAD_BYTES
        return NO_CONTENT

    def _put(self, request: bytes, reply: bytes) -> bytes:
        """Store an entry and return the reply to its PUT; see Store."""
        replies = self.replies
        old = replies.get(request)
        if old is None:
            if self._expiring.count and request in self._expiring:
                return self._put_expiring(request, reply, 0)
            self._grow(len(request) + len(reply) + ENTRY_OVERHEAD_BYTES, len(reply))
        elif len(old) != len(reply):
            self._grow(len(reply) - len(old), len(reply))
        replies[request] = reply
        return CREATED if old is None else OK

    def _put_expiring(self, request: bytes, reply: bytes, seconds: int) -> bytes:
        """Store an entry that expires, or did; with 0 seconds it does not."""
        old = self.replies.get(request) or self._expiring.get(request)
        grown_bytes = len(reply) - (len(old) if old else -len(request) - ENTRY_OVERHEAD_BYTES)
        self._grow(grown_bytes, len(reply))
        self._keep(request, reply, seconds)
        return OK if old else CREATED

    def _run_expiring(self, verb: int, request: bytes, value: bytes) -> bytes:
        """Run a command of expiry, or any command on a key that expires."""
        if verb == PUTEX:
            seconds, value = split_seconds(value)
            return self._put_expiring(request, OK_PREFIX + value, seconds)
        old = self.replies.get(request) or self._expiring.get(request)
        if old is None:
            return NOT_FOUND
        if verb == TTL:
            return b"200 OK %d\n" % (self._expiring.seconds_left(request) or -1)
        if verb == DEL:
            self._expiring.pop(request)
            self._forgotten(1, len(request) + len(old))
            return NO_CONTENT
        if verb == GET:
            return old
        self._keep(request, old, split_seconds(value)[0] if verb == EXPIRE else 0)
        return OK

    def _keep(self, request: bytes, reply: bytes, seconds: int) -> None:
        """Store an entry where it belongs; with 0 seconds it does not expire."""
        if seconds:
            self.replies.pop(request, None)
            self._expiring.put(request, reply, seconds)
        else:
            self._expiring.pop(request)
            self.replies[request] = reply

    def _forgotten(self, entries: int, size_bytes: int) -> None:
        self.replies.room_bytes += size_bytes + entries * ENTRY_OVERHEAD_BYTES

    @property
    def used_bytes(self) -> int:
        """What the entries take; see max_bytes."""
        return self._max_bytes - self.replies.room_bytes

    @property
    def expired_keys(self) -> int:
        """How many keys have ended at their deadline and been forgotten."""
        return self._expiring.ended_keys

    def reclaim(self, most: int) -> bool:
        """Forget up to `most` keys that have ended; return whether more have. A server calls it now and then."""
        return self._expiring.reclaim(most)

    def apply(self, batch: Batch, limit_bytes: int) -> list[bytes]:
        """Run commands in order; see Store. Raises StoreError for a PUT for which there is no memory."""
        return run_each(self.run, batch, limit_bytes)

    def _grow(self, grown_bytes: int, reply_bytes: int) -> None:
        replies = self.replies
        if grown_bytes > replies.room_bytes:
            raise StoreError(f"the memory store is full: {self.used_bytes} of {self._max_bytes} bytes are used")
        replies.room_bytes -= grown_bytes
        if reply_bytes > replies.largest_bytes:  # noqa: PLR1730 - a call of max costs 60 ns
            replies.largest_bytes = reply_bytes

    def count(self) -> int:
        """Return the number of keys stored. Some that ended in the last second may be among them."""
        until_s = time.monotonic() + COUNTING_S
        while self.reclaim(COUNTING_KEYS) and time.monotonic() < until_s:
            pass
        return len(self.replies) + self._expiring.count

    def close(self) -> None:
        """Do nothing: there is nothing to release."""
