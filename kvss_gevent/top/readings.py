"""One reading of a server: its STATS, its slow log and its metrics page, if it has them."""

import time
from dataclasses import dataclass
from typing import Final

from kvss_gevent.client.sync import KVClient
from kvss_gevent.protocol.stats_reply import Stats, parse_stats
from kvss_gevent.protocol.wire import OK_PREFIX
from kvss_gevent.settings.addresses import Endpoint
from kvss_gevent.top.metrics_client import NoPage, Samples, read_page
from kvss_gevent.top.slow_reply import SlowReply, parse_slow_reply

MAX_REPLY_BYTES: Final = 1 << 20
"""The longest reply that is read; the slow log of hundreds of workers fits."""
SLOW_ENTRIES: Final = 20
MOST_SAID_BYTES: Final = 300
"""As much of a reply of unknown form is shown."""


@dataclass(frozen=True, slots=True)
class ServerReading:
    """What a server said at one time."""

    at_s: float
    """On the monotonic clock."""
    stats: Stats | None
    said: str
    """The beginning of the reply to STATS as text, for a server whose STATS form is unknown."""
    samples: Samples
    """The samples of the metrics page; empty if there is none."""
    no_page: str = ""
    """Why the metrics page that was asked for could not be read; empty if it was read."""
    slow: SlowReply | None = None
    """None if the server does not let this client read its slow log."""


class Reader:
    """Reads one server repeatedly. It sends no second SLOWLOG to a server that did not understand the first."""

    def __init__(self, client: "KVClient[bytes]", page: Endpoint | None) -> None:
        self._client, self._page = client, page
        self._slow_line: bytes | None = b"KV/1.0 SLOWLOG %d" % SLOW_ENTRIES

    def read(self) -> ServerReading:
        """Return a reading. Raises KVError if the server does not answer."""
        reply = self._client.request(b"KV/1.0 STATS")
        try:
            stats = parse_stats(reply.removeprefix(OK_PREFIX))
        except ValueError:
            stats = None
        slow = self._read_slow_log()
        samples: Samples = {}
        no_page = ""
        if self._page:
            try:
                samples = read_page(self._page)
            except NoPage as error:
                no_page = str(error)
        return ServerReading(
            time.monotonic(),
            stats,
            reply[:MOST_SAID_BYTES].decode("utf-8", "replace"),
            samples,
            no_page,
            slow,
        )

    def _read_slow_log(self) -> SlowReply | None:
        if self._slow_line is None:
            return None
        try:
            return parse_slow_reply(self._client.request(self._slow_line))
        except ValueError:
            self._slow_line = None
            return None
