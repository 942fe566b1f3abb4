"""Which packets of a busy server the slow log times: those that can hold the loop for long."""

import time
from typing import Any

import gevent
import pytest
from gevent import socket as green

from kvss_gevent.core.lab_commands import Lab
from kvss_gevent.core.service import Service
from kvss_gevent.observe.observer import Observer
from kvss_gevent.observe.shared_figures import SharedFigures
from kvss_gevent.observe.timing import SAMPLE_CALLS
from kvss_gevent.server.gevent_server import KVServer
from kvss_gevent.settings.config import Config
from kvss_gevent.stores.memory import MemoryStore
from kvss_gevent.trace.scenes.stalling_store import StallingStore

EVERY = -1
"""The longest packet that is left out, where none is."""


def filled(keys: int) -> MemoryStore:
    store = MemoryStore()
    store.replies.update((b"%d" % number, b"") for number in range(keys))
    return store


class Client:
    sock = address = None


def observed(slow_ms: int, store: Any, lab: Lab | None = None) -> tuple[Service, Observer]:
    """Give a service of a busy server: not every call is timed for the histograms."""
    observer = Observer(SharedFigures(1).rows[0], 0, slow_ms)
    service = Service(store, tally=observer, lab=lab)
    observer.slow_log.begin(observer.timing.set_limit, may_wait=service.may_wait)
    observer.timing.times.all_count = False
    observer.leave_out_short(service)
    return service, observer


@pytest.mark.parametrize(
    ("slow_ms", "keys", "short_bytes"),
    [(20, 0, 20_000), (20, 200_000, 20_000), (20, 200_001, EVERY), (21, 200_001, 21_000), (9, 0, EVERY), (0, 0, EVERY)],
)
def test_short_packets_are_left_out_unless_the_operator_or_a_growing_table_can_take_long(
    slow_ms: int, keys: int, short_bytes: int
) -> None:
    _, observer = observed(slow_ms, filled(keys))
    assert observer.timing.stopwatch.short_bytes == short_bytes


@pytest.mark.parametrize(("store", "lab"), [(MemoryStore(), Lab()), (StallingStore(MemoryStore(), time.sleep), None)])
def test_every_packet_is_timed_if_any_command_can_take_long(store: Any, lab: Lab | None) -> None:
    _, observer = observed(20, store, lab)
    assert observer.timing.stopwatch.short_bytes == EVERY


def test_every_packet_is_timed_while_an_entry_is_open_and_on_a_quiet_server() -> None:
    _, observer = observed(20, MemoryStore())
    assert observer.timing.stopwatch.short_bytes > 0
    observer.slow_log.on_hold(Client(), b"KV/1.0 PUT a 1\n", 50_000_000, time.monotonic_ns())
    assert observer.timing.stopwatch.short_bytes == EVERY
    _, observer = observed(20, MemoryStore())
    observer.timing.begin_second()
    assert observer.timing.stopwatch.short_bytes == EVERY


def test_every_packet_is_timed_after_the_loop_stood_still_for_an_unknown_reason() -> None:
    service, observer = observed(20, MemoryStore())
    observer.start(service, may_wait=False)
    stopwatch = observer.timing.stopwatch

    def short_bytes() -> int:
        for _ in range(SAMPLE_CALLS):  # they end the sample that a timer may have begun
            stopwatch.tell(Client(), b"KV/1.0 GET a\n", time.monotonic(), 0.0)
        return stopwatch.short_bytes

    assert short_bytes() == 20_000
    time.sleep(0.1)
    gevent.sleep(0.05)  # the timer finds that it was late
    assert short_bytes() == EVERY
    observer.leave_out_short(service)  # a second later
    assert stopwatch.short_bytes == EVERY
    assert observer.slow_log.written == 0


def test_the_loop_times_the_packets_that_are_longer() -> None:
    service, observer = observed(10, MemoryStore())
    told: list[int] = []
    stopwatch = observer.timing.stopwatch
    stopwatch.limit_s, stopwatch.tell = -1.0, lambda _, data, *times: told.append(len(data))
    listener = green.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    server = KVServer(listener, service, Config(), observer=observer)
    server.start()
    with green.create_connection(listener.getsockname(), 30) as client:
        for line in (b"KV/1.0 GET a\n", b"KV/1.0 PUT a 1\n", b"KV/1.0 GET a\n", b"KV/1.0 DEL a\n"):
            client.sendall(line)
            assert client.recv(100)
        assert told == []
        client.sendall(b"KV/1.0 PUT a %b\n" % (b"v" * 60_000))
        assert client.recv(100) == b"201 CREATED\n"
    server.drain(1)
    assert told
    assert min(told) > 10_000
