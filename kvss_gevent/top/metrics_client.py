"""Fetches the metrics page of a server and reads its numbers."""

import http.client
import math
import re
from collections.abc import Mapping
from typing import Final

from kvss_gevent.settings.addresses import Endpoint, parse_endpoint
from kvss_gevent.settings.fail import escaped

TIMEOUT_S: Final = 5.0
MAX_PAGE_BYTES: Final = 4 << 20
_SAMPLE: Final = re.compile(r"^(\w+)(?:\{([^}]*)\})? (\S+)$", re.MULTILINE)
_LABEL: Final = re.compile(r'\w+="([^"]*)"')
_LABELS: Final = {"kvss_requests_total": 2, "kvss_worker_connections": 1}
"""How many labels a sample has, where they are read one by one."""

Samples = Mapping[tuple[str, ...], float]
"""Values, by the name of a sample and the values of its labels."""


class NoPage(Exception):
    """The page cannot be read; the message says why."""


def page_address(text: str) -> Endpoint:
    """Read http://HOST:PORT/metrics, HOST:PORT or a port. Raises ValueError."""
    return parse_endpoint(text.removeprefix("http://").partition("/")[0])


def read_page(place: Endpoint) -> Samples:
    """Fetch the page of a server and return its samples. Raises NoPage."""
    connection = http.client.HTTPConnection(place.host, place.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/metrics")
        reply = connection.getresponse()
        text = reply.read(MAX_PAGE_BYTES).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        raise NoPage(getattr(error, "strerror", None) or str(error) or "it is not HTTP") from None
    finally:
        connection.close()
    if reply.status != 200:
        raise NoPage(f"it answers {reply.status}")
    return parse_page(text)


def parse_page(text: str) -> Samples:
    """Return the samples of OpenMetrics text. Raises NoPage if it does not come from a KV/1.0 server."""
    try:
        found = {
            (name, *map(escaped, _LABEL.findall(labels))): float(value) for name, labels, value in _SAMPLE.findall(text)
        }
    except ValueError:
        found = {}
    as_usual = all(
        math.isfinite(value) and len(sample) == 1 + _LABELS.get(sample[0], len(sample) - 1)
        for sample, value in found.items()
    )
    if ("kvss_uptime_seconds",) not in found or not as_usual:
        raise NoPage("it is not a page of kvss serve --metrics")
    return found
