"""What a store is: commands as data in, results out. How lines become commands is for session.py."""

from collections.abc import Sequence
from typing import Protocol, TypeGuard

from kvss_gevent.protocol.wire import GET, Request
from kvss_gevent.settings.fail import Exit, Fail

Command = Request
"""Verb.GET, Verb.PUT or Verb.DEL, with key and value."""


QUICK_LINE_BYTES = 2048
"""The longest request line that put_line of an InlineStore runs: a session counts on it to bound its replies."""


class StoreError(Exception):
    """The store could not do it: nothing of the batch is acknowledged, whether it took effect is unknown (rule 10)."""

    logged = False
    """Whether the store has said so in the log itself, so that nobody else need say it again."""


Result = bytes | bool | None | StoreError
"""GET: the value or None. PUT: True where the key is new. DEL: True where the key was there.

A StoreError is the result of a command that could not be done while others of its batch could."""

Job = tuple[Sequence[Command] | Sequence[bytes], int]
"""A batch, or request lines (see LineStore), and its limit_bytes; never empty."""


def is_lines(commands: Sequence[Command] | Sequence[bytes]) -> TypeGuard[Sequence[bytes]]:
    """Tell a batch from request lines."""
    return type(commands[0]) is bytes


def writes(batch: Sequence[Command]) -> bool:
    """Tell whether any command of a batch writes."""
    for verb, _, _ in batch:  # noqa: SIM110 - any() costs 0.4 us more, once a batch
        if verb is not GET:
            return True
    return False


class CannotOpen(Fail):
    """A store cannot be had; usage tells that the wish itself was wrong."""

    def __init__(self, cause: str, remedy: str, *, usage: bool = False) -> None:
        super().__init__(cause, remedy, Exit.USAGE if usage else Exit.UNREACHABLE)


class Store(Protocol):
    """Keys and values behind every session of a server."""

    blocks: bool
    """Whether apply may wait, for a disk or a network: then the caller must not be in the hub's own greenlet."""

    def apply(self, batch: Sequence[Command], limit_bytes: int) -> list[Result]:
        """Run commands in order and return their results.

        At least one command is run; the store may stop early, with fewer results than commands, once the values it
        has fetched exceed limit_bytes together, so that a long pipeline of large values stays bounded in memory.
        Returning means that writes are as durable as this store makes them. Raises StoreError for the batch whole.
        """
        ...

    def count(self) -> int:
        """Return the number of keys stored."""
        ...

    def close(self) -> None:
        """Release what the store holds; a second call does nothing."""
        ...


LinesDone = tuple[list[bytes], int, int]
"""The reply lines to the request lines in front, and how many of these were PUTs and DELs."""


class LineStore(Store, Protocol):
    """A store that can run whole request lines, for which a pipeline is not taken apart and put together again."""

    def run_lines(self, lines: Sequence[bytes], limit_bytes: int) -> LinesDone:
        """Run lines in order up to the first that is no GET, PUT or DEL, or that it leaves to `apply`; see Store.apply.

        It may run none. A line that was run and failed alone has 500 for its reply, and the store has logged why.
        Raises StoreError for all lines in front that are GET, PUT or DEL.
        """
        ...


class InlineStore(Store, Protocol):
    """A store that answers from this process's own memory, so that a session need not parse a GET that hits.

    The table is the store itself and not a cache of it: there is nothing to keep in step.
    """

    replies: dict[bytes, bytes]
    """From the whole request line `KV/1.0 GET key` to the whole reply line `200 OK value`, for every key stored."""

    line_puts: int
    """PUTs run by put_line, which a session cannot count without paying for it."""

    largest_reply_bytes: int
    """No reply line in the table is longer, and none ever was; at least QUICK_LINE_BYTES, as put_line may store one."""

    def get(self, key: bytes) -> bytes | None:
        """Return a value or None."""
        ...

    def put(self, key: bytes, value: bytes) -> bool:
        """Store a value; return True where the key is new. Raises StoreError."""
        ...

    def put_line(self, line: bytes) -> bytes | None:
        """Run a whole request line that is a well-formed PUT and return its reply line.

        Returns None, and does nothing, for any other line, for one longer than QUICK_LINE_BYTES, and for a PUT that
        cannot be done: put says why.
        """
        ...

    def delete(self, key: bytes) -> bool:
        """Forget a key; return True where it was there."""
        ...
