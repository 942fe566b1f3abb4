"""KV/1.0 key-value server on gevent; the client library is imported from here, everything else from its own module."""

from kvss_gevent.client import KVClient

__all__ = ["KVClient"]
__version__ = "0.1.0"
