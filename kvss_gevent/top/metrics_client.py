"""Fetches the metrics page of a server and reads its numbers."""

import math
import re
import socket
import time
from collections.abc import Callable, Mapping
from typing import Final

from kvss_gevent.settings.addresses import Endpoint, parse_endpoint
from kvss_gevent.settings.fail import escaped

TIMEOUT_S: Final = 5.0
"""The time for the whole page. A server that sends a byte now and then gets no more."""
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


def read_page(place: Endpoint, clock: Callable[[], float] = time.monotonic) -> Samples:
    """Fetch the page of a server and return its samples. Raises NoPage."""
    try:
        head, _, body = _fetch(place, clock() + TIMEOUT_S, clock).partition(b"\r\n\r\n")
    except (OSError, UnicodeError) as error:  # UnicodeError: a host that cannot be looked up
        raise NoPage(getattr(error, "strerror", None) or str(error)) from None
    words = head.split(None, 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/"):
        raise NoPage("it is not HTTP")
    if words[1] != b"200":
        raise NoPage(f"it answers {escaped(words[1].decode('latin-1'))[:20]}")
    return parse_page(body.decode("utf-8", "replace"))


def _fetch(place: Endpoint, due_s: float, clock: Callable[[], float]) -> bytes:
    """Return what a server answers until it closes. Raises OSError."""
    with socket.create_connection((place.host, place.port), TIMEOUT_S) as sock:
        # HTTP/1.0: the answer is in one piece, and its end is the end of the connection.
        sock.sendall(f"GET /metrics HTTP/1.0\r\nHost: {place}\r\n\r\n".encode())
        answer = bytearray()
        while (left_s := due_s - clock()) > 0:
            sock.settimeout(left_s)
            part = sock.recv(1 << 16)
            if not part:
                return bytes(answer)
            answer += part
            if len(answer) > MAX_PAGE_BYTES:
                raise OSError(f"it is longer than {MAX_PAGE_BYTES} bytes")
        raise TimeoutError("timed out")


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
