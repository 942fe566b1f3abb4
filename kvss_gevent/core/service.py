"""What all sessions of one server share: the store, the counters, the limits of a session."""

import copy
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from kvss_gevent.core.admin_commands import AdminCommands
from kvss_gevent.core.conversation import Conversation, Counters, Limits
from kvss_gevent.core.lab_commands import Lab
from kvss_gevent.core.session import Session
from kvss_gevent.protocol.stats_reply import FORMS, Stats
from kvss_gevent.protocol.wire import LINE, OK_PREFIX, Request, Status, parse_request, parse_strictly
from kvss_gevent.stores.base import Store, StoreError

logger = logging.getLogger("kvss")

FAULTS = {"interval_s": 10.0}
"""For the log: faults of the store get one line in so many seconds, because a store that fails usually fails often."""


@dataclass(slots=True)
class RequestCounts:
    """Counters since the start; see Counters."""

    started_s: float = field(default_factory=time.monotonic)
    connections: int = 0
    commands: int = 0
    puts: int = 0
    dels: int = 0
    others: int = 0

    def uptime_s(self) -> int:
        """Return whole seconds since the start."""
        return int(time.monotonic() - self.started_s)


class ReplyTally(Protocol):
    """Counts requests by command and reply code, for the metrics."""

    def counting(self, store: Store, /) -> Store:
        """Return a store that does the same as the given one and counts."""
        ...

    def count_other(self, line: bytes, reply: bytes, /) -> None:
        """Count a request that was answered without the store."""


Converse = Callable[["Service"], Conversation]
"""Makes the conversation of a new client."""


class Service:
    """One store, its counters and limits, behind any number of sessions."""

    def __init__(  # noqa: PLR0913 - one is asked for, the others have defaults
        self,
        store: Store,
        limits: Limits | None = None,
        *,
        strict: bool = False,
        stats_format: str = "readme",
        stats: Counters | None = None,
        colleagues: Sequence[Counters] = (),
        lab: Lab | None = None,
        converse: Converse = Session,
        login: Callable[["Service", str], Conversation] | None = None,
        tally: "ReplyTally | None" = None,
    ) -> None:
        self._tally = tally
        self.bare_store = store
        """The store itself, where `store` is one that counts."""
        self.store = tally.counting(store) if tally else store
        self.limits = limits or Limits()
        self.stats: Counters = stats or RequestCounts()
        self.colleagues = colleagues
        """The counters of the other workers of this server. STATS adds their numbers to ours."""
        self.parse: Callable[[bytes], Request] = parse_strictly if strict else parse_request
        self.lab = lab
        self.admin: AdminCommands | None = None
        """Answers the operator's commands."""
        self._views: list[Service] = []
        self._stranger: Service | None = None
        self.converse = converse
        """Makes the conversation of a client that need not log in, or is logged in."""
        self._login = login
        self.may_wait = self.store.blocks or login is not None
        """Whether a conversation may let other greenlets run, in its store or while a password is checked."""
        self._stats_form = FORMS[stats_format]

    def open(self, peer: str = "") -> Conversation:
        """Return the conversation of a new client at an address. This is the one place where conversations are made."""
        if self._login:
            return self._login(self, peer)
        if self.admin is None or peer == "loopback":
            return self.converse(self)
        if self._stranger is None:
            self._stranger = self.over(lambda store: store, admin=None)
        return self.converse(self._stranger)

    def is_admitted(self, conversation: Any) -> bool:
        """Tell whether a conversation has logged in, or needs no login."""
        return self._login is None or conversation.is_admitted

    def extra_reply(self, line: bytes) -> bytes | None:
        """Return the reply to a command of this server that is not part of KV/1.0; None for any other line."""
        for commands in (self.lab, self.admin):
            reply = commands.run(line) if commands else None
            if reply is not None:
                return reply
        return None

    def count_other(self, line: bytes, reply: bytes) -> None:
        """Count a request that was answered without the store."""
        self.stats.others += 1
        if self._tally:
            self._tally.count_other(line, reply)

    def over(self, view: Callable[[Store], Store], admin: AdminCommands | None) -> "Service":
        """Return a service with the same counters and limits, on another view of the store."""
        other = copy.copy(self)
        other.store = view(self.bare_store)
        if self._tally:
            other.store = self._tally.counting(other.store)
        other.admin = admin
        self._views.append(other)
        return other

    def change_limits(self, limits: Limits) -> None:
        """Change the limits of all conversations, on all views."""
        for service in (self, *self._views):
            service.limits = limits

    def stats_reply(self, commands: int) -> bytes:
        """Return the reply line to a STATS that comes after `commands` requests to this worker (rule 8)."""
        everyone = (self.stats, *self.colleagues)
        commands += sum(colleague.commands for colleague in self.colleagues)
        puts = sum(one.puts for one in everyone)
        dels = sum(one.dels for one in everyone)
        stats = Stats(
            uptime_s=self.stats.uptime_s(),
            keys_stored=self.store.count(),
            commands_processed=commands,
            connections=self.connections(),
            get_requests=commands - puts - dels - sum(one.others for one in everyone),
            put_requests=puts,
            del_requests=dels,
        )
        return OK_PREFIX + self._stats_form(stats).encode() + b"\n"

    def connections(self) -> int:
        """Return how many clients are connected, to all workers together."""
        return self.stats.connections + sum(colleague.connections for colleague in self.colleagues)

    def fault_reply(self, fault: Exception) -> bytes:
        """Log a fault of the store and return the reply line for it (rule 10)."""
        if not (isinstance(fault, StoreError) and fault.logged):
            # A StoreError's text is enough. Any other exception is a bug, so its traceback is logged.
            trace = None if isinstance(fault, StoreError) else fault
            logger.error("the store failed: %s", str(fault) or type(fault).__name__, exc_info=trace, extra=FAULTS)
        # The traceback would keep the frames, and with them the whole batch, in memory until the garbage collector
        # runs.
        fault.__traceback__ = None
        return LINE[Status.SERVER_ERROR]
