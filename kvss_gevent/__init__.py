"""KV/1.0 key-value server on gevent; the client library is imported from here, everything else from its own module."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvss_gevent.client.asyncio_client import AsyncKVClient, AsyncPipeline
    from kvss_gevent.client.asyncio_pool import AsyncKVPool
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

_HOMES = {
    "AsyncKVClient": "client.asyncio_client",
    "AsyncKVPool": "client.asyncio_pool",
    "AsyncPipeline": "client.asyncio_client",
    "KVClient": "client.sync",
    "KVPool": "client.connection_pool",
    "Pipeline": "client.sync",
    "Retry": "client.client_options",
    "Stats": "protocol.stats_reply",
}
"""Where each name is defined; those that are not here are exceptions."""


def __getattr__(name: str) -> Any:
    """Import a name when it is first asked for: `kvss` needs no client, and few clients the 50 ms of asyncio."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found = getattr(import_module(f"kvss_gevent.{_HOMES.get(name, 'protocol.errors')}"), name)
    globals()[name] = found
    return found
