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

    gathers = False
    blocks = False

    def __init__(self, max_bytes: int | None = None) -> None:
        self.replies = ReplyTable()
        self.used_bytes = 0
        self._max_bytes = float("inf") if max_bytes is None else max_bytes

    def apply(self, batch: Batch, limit_bytes: int) -> list[bytes]:
        """Run commands in order; see Store. Raises StoreError for a PUT for which there is no memory."""
        replies = self.replies
        answers: list[bytes] = []
        for verb, key, value in batch:
            request = GET_PREFIX + key + b"\n"
            old = replies.get(request)
            if verb == PUT:
                reply = OK_PREFIX + value
                if old is None:
                    self._grow(len(request) + len(reply) + ENTRY_OVERHEAD_BYTES, reply, answers)
                elif len(old) != len(reply):
                    self._grow(len(reply) - len(old), reply, answers)
                replies[request] = reply
                answers.append(CREATED if old is None else OK)
            elif verb == GET:
                answers.append(NOT_FOUND if old is None else old)
                limit_bytes -= len(answers[-1])
                if limit_bytes < 0:
                    break
            elif old is None:
                answers.append(NOT_FOUND)
            else:
                del replies[request]
                self.used_bytes -= len(request) + len(old) + ENTRY_OVERHEAD_BYTES
                answers.append(NO_CONTENT)
        return answers

    def _grow(self, grown_bytes: int, reply: bytes, answers: list[bytes]) -> None:
        used_bytes = self.used_bytes + grown_bytes
        if used_bytes > self._max_bytes and grown_bytes > 0:
            fault = StoreError(f"the memory store is full: {self.used_bytes} of {self._max_bytes} bytes are used")
            fault.done = answers
            raise fault
        self.used_bytes = used_bytes
        self.replies.largest_bytes = max(self.replies.largest_bytes, len(reply))

    def count(self) -> int:
        """Return the number of keys stored."""
        return len(self.replies)

    def close(self) -> None:
        """Do nothing: there is nothing to release."""
