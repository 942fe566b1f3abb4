"""Calls of a store on disk for tests: a value in, a result out, and why it cannot be opened."""

from pathlib import Path

import pytest
from store_calls import Result, apply

from kvss_gevent.protocol.wire import Verb
from kvss_gevent.stores.base import CannotOpen
from kvss_gevent.stores.disk.disk_store import DiskStore

NO_LIMIT = 1 << 30


def put(store: DiskStore, key: bytes, value: bytes) -> Result:
    return apply(store, [(Verb.PUT, key, value)], NO_LIMIT)[0]


def get(store: DiskStore, key: bytes) -> Result:
    return apply(store, [(Verb.GET, key, b"")], NO_LIMIT)[0]


def delete(store: DiskStore, key: bytes) -> Result:
    return apply(store, [(Verb.DEL, key, b"")], NO_LIMIT)[0]


def refusal(path: Path, **options: int) -> str:
    """Return why a store cannot be opened."""
    with pytest.raises(CannotOpen) as caught:
        DiskStore(path, **options)  # type: ignore[arg-type]
    assert "\n" not in caught.value.cause + caught.value.remedy
    return caught.value.cause
