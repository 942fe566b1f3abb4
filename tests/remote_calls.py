"""Stores on servers that break: how long a call may take, and calls that must fail or succeed again."""

import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress

import pytest
from store_calls import Result, apply
from valkeys import Valkey, wait_until

from kvss_gevent.stores.base import Command, StoreError
from kvss_gevent.stores.remote.remote_store import RemoteStore
from kvss_gevent.stores.remote.request import NodeLimits

LIMIT = 1 << 20
QUICK = NodeLimits(timeout_s=0.4)
PATIENT = NodeLimits(timeout_s=10.0)
"""For what must succeed, also where a process stands still for a while."""
BOUND_S = 3 * QUICK.timeout_s + 1.0
"""What a batch may take with QUICK, and a second for a busy machine."""


def fails_in_time(store: RemoteStore, batch: Sequence[Command]) -> StoreError:
    """Run a batch that must fail within the bound; return the error."""
    started_s = time.monotonic()
    with pytest.raises(StoreError) as error:
        apply(store, batch, LIMIT)
    assert time.monotonic() - started_s < BOUND_S
    return error.value


def works_again(store: RemoteStore, batch: Sequence[Command]) -> list[Result]:
    """Run a batch until it succeeds."""
    results: list[list[Result]] = []

    def attempt() -> bool:
        with suppress(StoreError):
            results.append(apply(store, batch, LIMIT))
        return bool(results)

    wait_until(attempt, "the store did not recover")
    return results[0]


class stopped:
    """A server that neither answers nor ends, for the length of the block."""

    def __init__(self, server: Valkey) -> None:
        assert server.process
        self.pid = server.process.pid

    def __enter__(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def __exit__(self, *_: object) -> None:
        os.kill(self.pid, signal.SIGCONT)
