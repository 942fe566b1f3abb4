"""What a server's loop and a conversation know of each other, and what a conversation needs of its service."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from kvss_gevent.core.lab_commands import Lab
from kvss_gevent.protocol.wire import MAX_LINE_BYTES, Request
from kvss_gevent.stores.base import InlineStore, LineStore, Store

Trace = Callable[[Request, bytes], None]
"""Called after every request with the request and its reply line."""


class Conversation(Protocol):
    """One client's conversation without a socket, with the six members that a server's loop uses; see Session.

    Whoever needs another kind (login first, traced) has a Service make another object with these members.
    """

    closed: bool
    more: bool
    quiet: bool

    @property
    def partial(self) -> bytearray | None: ...
    def receive(self, data: bytes, /) -> bytes: ...
    def proceed(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """What one conversation may hold and do at a time."""

    line_bytes: int = MAX_LINE_BYTES
    """The longest request line, without its line end (rule 2)."""

    reply_bytes: int = 1 << 20
    """Replies of one slice: the first reply that exceeds it ends the slice."""

    slice_lines: int = 512
    """Requests of one slice: about 0.2 ms of work, after which other connections get their turn."""


class Counters(Protocol):
    """What a server counts; see Stats."""

    connections: int
    commands: int
    puts: int
    dels: int
    others: int

    def uptime_s(self) -> int: ...


class Shared(Protocol):
    """What all conversations of a server share; see Service."""

    store: Store
    limits: Limits
    stats: Counters
    trace: Trace | None
    lab: Lab | None
    inline: InlineStore | None
    quick: InlineStore | None
    lines: LineStore | None

    def stats_reply(self, commands: int, /) -> bytes: ...
    def fault_reply(self, fault: Exception, /) -> bytes: ...
