"""The default store: a dict in this process, lost when it ends, as in the course document."""

from kvss_gevent.protocol.wire import GET, GET_PREFIX, LINE, OK_PREFIX, PUT, Status
from kvss_gevent.settings.config import Config
from kvss_gevent.stores.base import Batch, CannotOpen, ReplyTable, StoreError

OK, CREATED, NO_CONTENT = LINE[Status.OK], LINE[Status.CREATED], LINE[Status.NO_CONTENT]
NOT_FOUND = LINE[Status.NOT_FOUND]

ENTRY_OVERHEAD_BYTES = 200
"""What an entry costs beside its bytes: two object headers, rounding, its share of a dict that has just grown."""


def open_url(rest: str, config: Config) -> "MemoryStore":
    """Return the store of `memory:`, bounded by config.max_memory_bytes. Raises CannotOpen."""
    if rest:
        raise CannotOpen(f"memory: is followed by {rest!r}", "Write --store memory: with nothing after it.", usage=True)
    return MemoryStore(config.max_memory_bytes or None)


class MemoryStore:
    """A dict from request line to reply line, with an optional bound on memory.

    max_bytes counts request and reply lines and ENTRY_OVERHEAD_BYTES for each key; past it PUT fails while GET and DEL
    go on. None is no bound.
    """

    blocks = False

    def __init__(self, max_bytes: int | None = None) -> None:
        self.replies = ReplyTable()
        self.used_bytes = 0
        self._max_bytes = float("inf") if max_bytes is None else max_bytes

    def run(self, verb: int, key: bytes, value: bytes) -> bytes:
        """Run one command and return its reply line. Raises StoreError for a PUT for which there is no memory."""
        request = GET_PREFIX + key + b"\n"
        replies = self.replies
        old = replies.get(request)
        if verb is PUT:
            reply = OK_PREFIX + value
            if old is None:
                self._grow(len(request) + len(reply) + ENTRY_OVERHEAD_BYTES, len(reply))
            elif len(old) != len(reply):
                self._grow(len(reply) - len(old), len(reply))
            replies[request] = reply
            return CREATED if old is None else OK
        if old is None:
            return NOT_FOUND
        if verb is GET:
            return old
        del replies[request]
        self.used_bytes -= len(request) + len(old) + ENTRY_OVERHEAD_BYTES
        return NO_CONTENT

    def apply(self, batch: Batch, limit_bytes: int) -> list[bytes]:
        """Run commands in order; see Store. Raises StoreError for a PUT for which there is no memory."""
        answers: list[bytes] = []
        for command in batch:
            answers.append(self.run(*command))
            limit_bytes -= len(answers[-1])
            if limit_bytes < 0:
                break
        return answers

    def _grow(self, grown_bytes: int, reply_bytes: int) -> None:
        used_bytes = self.used_bytes + grown_bytes
        if used_bytes > self._max_bytes and grown_bytes > 0:
            raise StoreError(f"the memory store is full: {self.used_bytes} of {self._max_bytes} bytes are used")
        self.used_bytes = used_bytes
        self.replies.largest_bytes = max(self.replies.largest_bytes, reply_bytes)

    def count(self) -> int:
        """Return the number of keys stored."""
        return len(self.replies)

    def close(self) -> None:
        """Do nothing: there is nothing to release."""
