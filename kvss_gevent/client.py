"""The client library (in the making)."""


class KVClient:
    """A connection to a KV/1.0 server."""
