"""KV/1.0 key-value server on gevent; the client library is imported from here, everything else from its own module."""

from typing import TYPE_CHECKING, Any

from kvss_gevent.client.client_options import Retry
from kvss_gevent.client.connection_pool import KVPool
from kvss_gevent.client.sync import KVClient, Pipeline
from kvss_gevent.protocol.errors import (
    KVBadRequest,
    KVBusy,
    KVConnectError,
    KVConnectionLost,
    KVError,
    KVForbidden,
    KVProtocolError,
    KVServerError,
    KVStatusError,
    KVTimeout,
    KVUnauthorized,
    KVUpgradeRequired,
)
from kvss_gevent.protocol.stats_reply import Stats

if TYPE_CHECKING:
    from kvss_gevent.client.asyncio_client import AsyncKVClient, AsyncPipeline
    from kvss_gevent.client.asyncio_pool import AsyncKVPool

__all__ = [
    "AsyncKVClient",
    "AsyncKVPool",
    "AsyncPipeline",
    "KVBadRequest",
    "KVBusy",
    "KVClient",
    "KVConnectError",
    "KVConnectionLost",
    "KVError",
    "KVForbidden",
    "KVPool",
    "KVProtocolError",
    "KVServerError",
    "KVStatusError",
    "KVTimeout",
    "KVUnauthorized",
    "KVUpgradeRequired",
    "Pipeline",
    "Retry",
    "Stats",
]
__version__ = "0.2.0"

_ASYNC = {
    "AsyncKVClient": "kvss_gevent.client.asyncio_client",
    "AsyncKVPool": "kvss_gevent.client.asyncio_pool",
    "AsyncPipeline": "kvss_gevent.client.asyncio_client",
}


def __getattr__(name: str) -> Any:
    """Import what needs asyncio when it is asked for: that costs 50 ms, which most programs need not spend."""
    if name not in _ASYNC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_ASYNC[name]), name)
