"""Recognises clients that speak HTTP or TLS to a KV/1.0 port (rule 5b)."""

import re
from typing import Final

from kvss_gevent.protocol.wire import VERSION

HTTP_METHODS: Final = frozenset(b"GET POST PUT DELETE HEAD OPTIONS PATCH CONNECT TRACE".split())
_URL: Final = re.compile(rb"/|[A-Za-z][A-Za-z0-9+.-]*://")
_TLS_HANDSHAKE: Final = b"\x16"
JUDGED_BYTES: Final = 600
"""A line that is too long or not UTF-8 is judged by its first bytes."""


def is_tls_hello(data: bytes) -> bool:
    """Tell whether the first bytes of a connection begin a TLS handshake."""
    return data[:1] == _TLS_HANDSHAKE


def is_foreign(line: bytes) -> bool:
    """Tell whether a line belongs to another protocol, mostly HTTP, whose next lines must not be run."""
    first, _, rest = line.partition(b" ")
    if first == VERSION:
        return False
    last = line.rsplit(None, 1)[-1:]  # some HTTP programs accept a tab between two words
    return (
        (last != [] and last[0][:5].upper() == b"HTTP/")
        or first.rstrip(b"\r\n").endswith(b":")
        or (first in HTTP_METHODS and _URL.match(rest) is not None)
    )
