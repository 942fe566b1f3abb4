"""What all sessions of one server share: the store, the counters, the limits of a session. No socket, no gevent."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kvss_gevent.core.conversation import Conversation, Counters, Limits, Trace
from kvss_gevent.core.lab_commands import Lab
from kvss_gevent.core.session import Session
from kvss_gevent.protocol.wire import OK_PREFIX, REPLY, Status
from kvss_gevent.stores.base import InlineStore, LineStore, Store, StoreError

logger = logging.getLogger("kvss")

FAULT_LOG_INTERVAL_S = 10.0


@dataclass(slots=True)
class Stats:
    """Counters since the start. A GET, the most frequent request, is not counted: it is what the others leave over."""

    started_s: float = field(default_factory=time.monotonic)
    connections: int = 0
    commands: int = 0
    """Requests answered; counted once a slice."""
    puts: int = 0
    dels: int = 0
    others: int = 0
    """Requests that are no well-formed GET, PUT or DEL."""

    def uptime_s(self) -> int:
        """Return whole seconds since the start."""
        return int(time.monotonic() - self.started_s)


class Service:
    """One store, its counters and limits, behind any number of sessions."""

    def __init__(  # noqa: PLR0913 - one is asked for, the others have defaults
        self,
        store: Store,
        limits: Limits | None = None,
        *,
        stats_format: str = "readme",
        trace: Trace | None = None,
        stats: Counters | None = None,
        colleagues: Sequence[Counters] = (),
        lab: Lab | None = None,
        converse: "Callable[[Service], Conversation]" = Session,
    ) -> None:
        self.store = store
        self.limits = limits or Limits()
        self.stats: Counters = stats or Stats()
        self.colleagues = colleagues
        """The counters of the other workers of this server, whose numbers STATS adds to ours."""
        self.trace = trace
        self.lab = lab
        self._converse = converse
        self.inline: InlineStore | None = store if hasattr(store, "replies") else None  # type: ignore[assignment]
        self.quick = None if trace else self.inline
        """The same, unless every request must be parsed to be traced."""
        self.lines: LineStore | None = store if hasattr(store, "run_lines") and not trace else None  # type: ignore[assignment]
        self._stats_reply = {"readme": self._readme_stats, "lab": self._lab_stats}[stats_format]
        self._fault_logged_s = float("-inf")

    def open(self) -> Conversation:
        """Return a new conversation: the one place where they are made."""
        return self._converse(self)

    def stats_reply(self, commands: int) -> bytes:
        """Return the reply line to STATS as the request after our first `commands` requests (rule 8)."""
        commands += sum(colleague.commands for colleague in self.colleagues)
        return OK_PREFIX + self._stats_reply(commands).encode()

    def connections(self) -> int:
        """Return how many clients are connected, to all workers together."""
        return self.stats.connections + sum(colleague.connections for colleague in self.colleagues)

    def fault_reply(self, fault: Exception) -> bytes:
        """Log a fault of the store and return the reply line for it (rule 10).

        At most one line is logged in FAULT_LOG_INTERVAL_S: a store that fails fails often.
        """
        now = time.monotonic()
        told = isinstance(fault, StoreError) and fault.logged
        if not told and now - self._fault_logged_s >= FAULT_LOG_INTERVAL_S:
            self._fault_logged_s = now
            # A StoreError says all there is to say; anything else is a mistake of ours, and its traceback is wanted.
            trace = None if isinstance(fault, StoreError) else fault
            logger.error("the store failed: %s", str(fault) or type(fault).__name__, exc_info=trace)
        # It keeps the frames it came through alive, and they the whole batch, until the collector comes by.
        fault.__traceback__ = None
        return REPLY[Status.SERVER_ERROR]

    def _readme_stats(self, commands: int) -> str:
        minutes, seconds = divmod(self.stats.uptime_s(), 60)
        hours, minutes = divmod(minutes, 60)
        days, hours = divmod(hours, 24)
        day_part = "" if days == 0 else f"{days} day{'s' if days > 1 else ''}, "
        everyone = (self.stats, *self.colleagues)
        puts = sum(one.puts for one in everyone) + (self.inline.line_puts if self.inline else 0)
        dels = sum(one.dels for one in everyone)
        others = sum(one.others for one in everyone)
        return (
            f"uptime: {day_part}{hours}:{minutes:02}:{seconds:02}; connections: {self.connections()}; "
            f"commands_processed: {commands}; get_requests: {commands - puts - dels - others}; put_requests: {puts}; "
            f"del_requests: {dels}; keys_stored: {self.store.count()}"
        )

    def _lab_stats(self, commands: int) -> str:
        return f"keys={self.store.count()} uptime={self.stats.uptime_s()}s served={commands + 1}"
