"""KV/1.0 key-value server on gevent; the client library is imported from here, everything else from its own module."""

from kvss_gevent.client.sync import KVClient, Pipeline
from kvss_gevent.protocol.errors import (
    KVBadRequest,
    KVConnectError,
    KVConnectionLost,
    KVError,
    KVProtocolError,
    KVServerError,
    KVStatusError,
    KVTimeout,
    KVUpgradeRequired,
)
from kvss_gevent.protocol.stats_reply import Stats

__all__ = [
    "KVBadRequest",
    "KVClient",
    "KVConnectError",
    "KVConnectionLost",
    "KVError",
    "KVProtocolError",
    "KVServerError",
    "KVStatusError",
    "KVTimeout",
    "KVUpgradeRequired",
    "Pipeline",
    "Stats",
]
__version__ = "0.1.0"
