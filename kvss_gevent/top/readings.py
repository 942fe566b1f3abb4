"""One reading of a server: its STATS, its slow log and its metrics page, if it has them."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kvss_gevent.client.sync import KVClient
from kvss_gevent.protocol.stats_reply import Stats, parse_stats
from kvss_gevent.protocol.wire import OK_PREFIX
from kvss_gevent.settings.addresses import Endpoint
from kvss_gevent.top.metrics_client import NoPage, Samples, read_page


@dataclass(frozen=True, slots=True)
class ServerReading:
    """What a server said at one time."""

    at_s: float
    """On the monotonic clock."""
    stats: Stats | None
    said: str
    """The reply to STATS as text, for a server whose STATS form is unknown."""
    samples: Samples
    """The samples of the metrics page; empty if there is none."""
    no_page: str = ""
    """Why the metrics page that was asked for could not be read; empty if it was read."""
    slow_ms: int | None = None
    """The slow log's threshold. 0 if the server keeps no slow log, None if it does not let this client read it."""
    entries: Sequence[Any] = ()
    clients: Sequence[Any] = ()


class Reader:
    """Reads one server repeatedly. It sends no second SLOWLOG to a server that did not understand the first."""

    def __init__(self, client: "KVClient[bytes]", page: Endpoint | None, slow_entries: int = 20) -> None:
        self._client, self._page = client, page
        self._slow_line: bytes | None = b"KV/1.0 SLOWLOG %d" % slow_entries

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
            reply.decode("utf-8", "replace"),
            samples,
            no_page,
            slow.get("slow_ms"),
            slow.get("entries", ()),
            slow.get("clients", ()),
        )

    def _read_slow_log(self) -> dict[str, Any]:
        if self._slow_line is None:
            return {}
        reply = self._client.request(self._slow_line)
        try:
            found: dict[str, Any] = json.loads(reply.removeprefix(OK_PREFIX))
            return {"slow_ms": int(found["slow_ms"]), "entries": found["entries"], "clients": found["clients"]}
        except (ValueError, KeyError, TypeError):
            self._slow_line = None
            return {}
