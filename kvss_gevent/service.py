"""What all sessions of one server share: the store, the counters, the limits of a session. No socket, no gevent."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from kvss_gevent.stores.base import InlineStore, Store, StoreError
from kvss_gevent.wire import MAX_LINE_BYTES, OK_PREFIX, REPLY, Request, Status

logger = logging.getLogger("kvss")

Trace = Callable[[Request, bytes], None]
"""Called after every request with the request and its reply line."""

FAULT_LOG_INTERVAL_S = 10.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What one session may hold and do at a time."""

    line_bytes: int = MAX_LINE_BYTES
    """The longest request line, without its line end (rule 2)."""

    reply_bytes: int = 1 << 20
    """Replies of one slice: the first reply that exceeds it ends the slice."""

    slice_lines: int = 512
    """Requests of one slice: about 0.2 ms of work, after which other connections get their turn."""


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

    def __init__(
        self, store: Store, limits: Limits | None = None, *, stats_format: str = "readme", trace: Trace | None = None
    ) -> None:
        self.store = store
        self.limits = limits or Limits()
        self.stats = Stats()
        self.trace = trace
        self.inline: InlineStore | None = store if hasattr(store, "replies") else None  # type: ignore[assignment]
        self._stats_reply = {"readme": self._readme_stats, "lab": self._lab_stats}[stats_format]
        self._fault_logged_s = float("-inf")

    def stats_reply(self, commands: int) -> bytes:
        """Return the reply line to STATS as the request after the first `commands` requests (rule 8)."""
        return OK_PREFIX + self._stats_reply(commands).encode()

    def fault_reply(self, fault: Exception) -> bytes:
        """Log a fault of the store and return the reply line for it (rule 10).

        At most one line is logged in FAULT_LOG_INTERVAL_S: a store that fails fails often.
        """
        now = time.monotonic()
        if isinstance(fault, StoreError) and fault.logged:
            return REPLY[Status.SERVER_ERROR]
        if now - self._fault_logged_s >= FAULT_LOG_INTERVAL_S:
            self._fault_logged_s = now
            # A StoreError says all there is to say; anything else is a mistake of ours, and its traceback is wanted.
            trace = None if isinstance(fault, StoreError) else fault
            logger.error("the store failed: %s", str(fault) or type(fault).__name__, exc_info=trace)
        return REPLY[Status.SERVER_ERROR]

    def _readme_stats(self, commands: int) -> str:
        stats = self.stats
        minutes, seconds = divmod(stats.uptime_s(), 60)
        hours, minutes = divmod(minutes, 60)
        days, hours = divmod(hours, 24)
        day_part = "" if days == 0 else f"{days} day{'s' if days > 1 else ''}, "
        puts = stats.puts + (self.inline.line_puts if self.inline else 0)
        return (
            f"uptime: {day_part}{hours}:{minutes:02}:{seconds:02}; connections: {stats.connections}; "
            f"commands_processed: {commands}; get_requests: {commands - puts - stats.dels - stats.others}; put_requests: {puts}; "
            f"del_requests: {stats.dels}; keys_stored: {self.store.count()}"
        )

    def _lab_stats(self, commands: int) -> str:
        return f"keys={self.store.count()} uptime={self.stats.uptime_s()}s served={commands + 1}"
