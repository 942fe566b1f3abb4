"""The interfaces between a server's loop, a conversation and its service."""

from collections.abc import Callable, Sized
from dataclasses import dataclass
from typing import Protocol

from kvss_gevent.protocol.wire import MAX_LINE_BYTES, Request
from kvss_gevent.stores.base import Store


class Conversation(Protocol):
    """One client's conversation without a socket, with the seven members that a server's loop uses.

    Session is one. A conversation that starts with a login, or is logged, is another object with these members, made by
    Service.
    """

    quiet: bool
    """Set by the caller; receive sets it to False."""

    @property
    def closed(self) -> bool:
        """Whether the connection must end once the replies are sent."""

    @property
    def foreign(self) -> str:
        """The other protocol that the client speaks, where that has closed the conversation (rule 5b); else empty."""

    @property
    def more(self) -> bool:
        """Whether requests are waiting: proceed must be called before the next receive."""

    @property
    def partial(self) -> Sized | None:
        """The line whose end has not arrived. Each line is a new object: `is` shows whether it is still the same."""

    def receive(self, data: bytes, /) -> bytes:
        """Take bytes as they arrived, at least one; return the replies to the first slice of the requests in them."""
        ...

    def proceed(self) -> bytes:
        """Return the replies to the next slice of waiting requests."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one conversation may hold and do at a time."""

    line_bytes: int = MAX_LINE_BYTES
    """The longest request line, without its line end (rule 2)."""

    reply_bytes: int = 1 << 20
    """Replies of one slice. The first reply that exceeds it ends the slice."""

    slice_lines: int = 512
    """Requests of one slice: about 0.2 ms of work, after which other connections get their turn."""


class Counters(Protocol):
    """What a server counts. GETs, the most frequent, are not counted: GETs = commands - puts - dels - others."""

    connections: int
    commands: int
    """Requests answered; counted once a slice."""
    puts: int
    dels: int
    others: int
    """Requests that are not a well-formed GET, PUT or DEL."""

    def uptime_s(self) -> int: ...


class Shared(Protocol):
    """What all conversations of a server share; see Service."""

    store: Store
    limits: Limits
    stats: Counters
    parse: Callable[[bytes], Request]
    """See wire.parse_request."""

    def stats_reply(self, commands: int, /) -> bytes: ...
    def fault_reply(self, fault: Exception, /) -> bytes: ...
    def extra_reply(self, line: bytes, /) -> bytes | None: ...
    def count_other(self, line: bytes, reply: bytes, /) -> None: ...
