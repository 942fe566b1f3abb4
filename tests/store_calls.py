"""Stores asked as a dict would be: values without line feeds in, values and truths out instead of reply lines."""

from collections.abc import Sequence

from kvss_gevent.protocol.wire import LINE, OK_PREFIX, Status, Verb
from kvss_gevent.stores.base import Batch, Command, Store, StoreError

Result = bytes | bool | None | StoreError
"""GET: the value or None. PUT: True where the key is new. DEL: True where the key was there. 500: a StoreError."""


def put(key: bytes, value: bytes = b"v") -> Command:
    return Verb.PUT, key, value


def get(key: bytes) -> Command:
    return Verb.GET, key, b""


def delete(key: bytes) -> Command:
    return Verb.DEL, key, b""


def sent(batch: Batch) -> list[Command]:
    """Return commands as a session gives them to a store."""
    return [(verb, key, value + b"\n" if verb == Verb.PUT else b"") for verb, key, value in batch]


def results(batch: Batch, replies: Sequence[bytes]) -> list[Result]:
    """Return what reply lines say."""
    return [_result(verb, reply) for (verb, _, _), reply in zip(batch, replies, strict=False)]


def _result(verb: int, reply: bytes) -> Result:
    if reply == LINE[Status.SERVER_ERROR]:
        return StoreError("500")
    if verb == Verb.GET:
        if reply == LINE[Status.NOT_FOUND]:
            return None
        assert reply.startswith(OK_PREFIX)
        assert reply.endswith(b"\n")
        return reply[len(OK_PREFIX) : -1]
    yes, no = (Status.CREATED, Status.OK) if verb == Verb.PUT else (Status.NO_CONTENT, Status.NOT_FOUND)
    assert reply in (LINE[yes], LINE[no])
    return reply == LINE[yes]


def apply(store: Store, batch: Batch, limit_bytes: int) -> list[Result]:
    """Run a batch. Raises StoreError."""
    return results(batch, store.apply(sent(batch), limit_bytes))
