"""What a store is: commands as data in, reply lines out."""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from kvss_gevent.protocol.wire import LINE, READING_VERBS
from kvss_gevent.settings.fail import Exit, Fail

Command = tuple[int, bytes, bytes]
"""A verb of keys, the key, and the rest of the request with its line feed; see wire.Request."""

Batch = Sequence[Command]
"""Commands that are run in order; never empty."""


Job = tuple[Batch, int]
"""A batch and its limit_bytes; see Store.apply."""


class StoreError(Exception):
    """The store failed. A write that is not acknowledged may have taken effect, or not (rule 10)."""

    logged = False
    """Whether the store has logged it already."""


class CannotOpen(Fail):
    """A store cannot be opened. usage: the address or an option is wrong."""

    def __init__(self, cause: str, remedy: str, *, usage: bool = False) -> None:
        super().__init__(cause, remedy, Exit.USAGE if usage else Exit.UNREACHABLE)


LARGEST_WITHOUT_DATA_BYTES = max(map(len, LINE.values()))
"""The length of the longest reply that has no data."""


class ReplyTable(dict[bytes, bytes]):
    """From whole request lines `KV/1.0 GET key` to whole reply lines `200 OK value`, line feeds included.

    largest_bytes: the length of the longest reply that was ever in it or that has no data, or more. room_bytes: by how
    much its entries may grow together; never below 0. renew: empties the table if another process has written, and
    returns whether none has; None if nobody else writes. A reply counts only if `renew` was called after its request
    had arrived.
    """

    __slots__ = ("largest_bytes", "renew", "room_bytes")

    def __init__(self, renew: "Callable[[], bool] | None" = None, room_bytes: int = 0) -> None:
        super().__init__()
        self.largest_bytes = LARGEST_WITHOUT_DATA_BYTES
        self.renew = renew
        self.room_bytes = room_bytes


Run = Callable[[int, bytes, bytes], bytes]
"""Takes a Command's three parts and returns its reply line. Raises StoreError."""


Put = Callable[[bytes, bytes], bytes]
"""Stores a request and its reply line in a ReplyTable, and returns the reply to the PUT. Raises StoreError."""


class Store(Protocol):
    """The keys and values that all sessions of a server share."""

    replies: ReplyTable
    """Replies that are found without asking the store. They are never older than the requests that find them.

    For a store in this process's memory the table is the store itself. Another store may keep copies in it if all its
    calls are on one thread and it has `run`.
    """

    @property
    def run(self) -> "Run | None":
        """Runs one command at once. None for a store that runs a batch as one transaction or one round trip."""
        ...

    @property
    def put(self) -> "Put | None":
        """Stores an entry of `replies` at once. None if the table is always empty, or if it may not be written.

        A session may do itself what this does where an entry is in the table, and the new reply is not longer than
        largest_bytes: room_bytes becomes less by as much as the new reply is longer than the old.
        """
        ...

    blocks: bool
    """Whether apply may wait for a disk or a network. Then the caller must not be the hub's own greenlet."""

    def apply(self, batch: Batch, limit_bytes: int) -> list[bytes]:
        """Run commands in order and return their reply lines.

        At least one command is run. The store may stop early, with fewer replies than commands, once they exceed
        limit_bytes together, so that a long pipeline of large values stays bounded in memory. Returning means that
        writes are as durable as this store makes them. A command that failed alone has 500 for its reply, and the store
        has logged why. Raises StoreError for the batch whole.
        """
        ...

    def count(self) -> int:
        """Return the number of keys stored."""
        ...

    def close(self) -> None:
        """Release what the store holds; a second call does nothing."""
        ...


@runtime_checkable
class CommittingStore(Store, Protocol):
    """A store that must be told when a turn of the event loop ends. What was run until then is one transaction."""

    def commit(self) -> bool:
        """Commit what was run; return whether all since the last call is committed.

        Replies may be sent afterwards. If it returns False, each of them has to be 500.
        """
        ...


def run_each(run: Run, batch: Batch, limit_bytes: int) -> list[bytes]:
    """Run commands one by one; see Store.apply."""
    answers: list[bytes] = []
    for command in batch:
        answers.append(run(*command))
        limit_bytes -= len(answers[-1])
        if limit_bytes < 0:
            break
    return answers


def split_seconds(value: bytes) -> tuple[int, bytes]:
    """Split what PUTEX or EXPIRE brings into seconds and a value with its line feed; EXPIRE has no value."""
    seconds, _, rest = value.partition(b" ")
    return int(seconds), rest


def writes(batch: Batch) -> bool:
    """Tell whether any command of a batch writes."""
    for verb, _, _ in batch:  # noqa: SIM110 - any() costs 0.4 us more, once a batch
        if verb not in READING_VERBS:
            return True
    return False
