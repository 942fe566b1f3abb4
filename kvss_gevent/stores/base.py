"""What a store is: commands as data in, reply lines out."""

from collections.abc import Callable, Sequence
from typing import Protocol

from kvss_gevent.protocol.wire import READING_VERBS
from kvss_gevent.settings.fail import Exit, Fail

Command = tuple[int, bytes, bytes]
"""A verb of keys, key, and what else the request had, with the line feed that ends it; see wire.Request."""

Batch = Sequence[Command]
"""Commands that are run in order; never empty."""


Job = tuple[Batch, int]
"""A batch and its limit_bytes; see Store.apply."""


class StoreError(Exception):
    """The store could not do it. What is not acknowledged may have taken effect, or not (rule 10)."""

    logged = False
    """Whether the store has said so in the log itself, so that nobody else need say it again."""


class CannotOpen(Fail):
    """A store cannot be had; usage tells that the wish itself was wrong."""

    def __init__(self, cause: str, remedy: str, *, usage: bool = False) -> None:
        super().__init__(cause, remedy, Exit.USAGE if usage else Exit.UNREACHABLE)


class ReplyTable(dict[bytes, bytes]):
    """From whole request lines `KV/1.0 GET key` to whole reply lines `200 OK value`, line feeds included.

    largest_bytes: no reply in it is longer, and none ever was.
    """

    __slots__ = ("largest_bytes",)

    def __init__(self) -> None:
        super().__init__()
        self.largest_bytes = 1


Run = Callable[[int, bytes, bytes], bytes]
"""Takes a Command's three parts and returns its reply line. Raises StoreError."""


class Store(Protocol):
    """Keys and values behind every session of a server."""

    replies: ReplyTable
    """Answers that need no look at the store; empty for ever where the store is not this process's own memory.

    The table is the store and not a copy of it: there is nothing to keep in step.
    """

    @property
    def run(self) -> "Run | None":
        """Runs one command at once, where that is as cheap as in a batch; None where sessions must give whole slices.

        The latter is for stores to which a batch is one transaction or one round trip.
        """
        ...

    blocks: bool
    """Whether apply may wait, for a disk or a network: then the caller must not be in the hub's own greenlet."""

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


def split_seconds(value: bytes) -> tuple[int, bytes]:
    """Return seconds and value, with its line feed, of what a PUTEX brings; for EXPIRE the value is empty."""
    seconds, _, rest = value.partition(b" ")
    return int(seconds), rest


def writes(batch: Batch) -> bool:
    """Tell whether any command of a batch writes."""
    for verb, _, _ in batch:  # noqa: SIM110 - any() costs 0.4 us more, once a batch
        if verb not in READING_VERBS:
            return True
    return False
