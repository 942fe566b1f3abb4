"""Which packets of a busy server the slow log times: those that can hold the loop for long."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import gevent
import pytest
from gevent import socket as green

from kvss_gevent.core.lab_commands import Lab
from kvss_gevent.core.service import Service
from kvss_gevent.observe import observer as observing
from kvss_gevent.observe.kernel_figures import RunDelay
from kvss_gevent.observe.observer import Observer
from kvss_gevent.observe.shared_figures import SharedFigures
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


BEGUN: list[Observer] = []


@pytest.fixture(autouse=True)
def _stopped() -> Iterator[None]:
    """Stop what watches the event loop, which later tests use, too."""
    yield
    while BEGUN:
        BEGUN.pop().stop()


def observed(slow_ms: int, store: Any, lab: Lab | None = None) -> tuple[Service, Observer]:
    """Give a service of a busy server: not every call is timed for the histograms."""
    observer = Observer(SharedFigures(1).rows[0], 0, slow_ms)
    service = Service(store, tally=observer, lab=lab)
    observer.timing.times.all_count = False
    observer.begin_slow_log(service, may_wait=service.may_wait)
    BEGUN.append(observer)
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


def test_every_packet_is_timed_where_the_turns_of_the_loop_cannot_be_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observing, "can_watch_turns", lambda _: False)
    _, observer = observed(20, MemoryStore())
    assert observer.timing.stopwatch.short_bytes == EVERY


def test_every_packet_is_timed_while_an_entry_is_open_and_on_a_quiet_server() -> None:
    _, observer = observed(20, MemoryStore())
    assert observer.timing.stopwatch.short_bytes > 0
    observer.slow_log.on_hold(Client(), b"KV/1.0 PUT a 1\n", 50_000_000, time.monotonic_ns())
    assert observer.timing.stopwatch.short_bytes == EVERY
    _, observer = observed(20, MemoryStore())
    observer.timing.begin_second()
    assert observer.timing.stopwatch.short_bytes == EVERY


@contextmanager
def served(service: Service, observer: Observer) -> Iterator[Callable[[], Any]]:
    """Serve; gives a function that connects a client."""
    listener = green.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(1000)
    server = KVServer(listener, service, Config(), observer=observer)
    server.start()
    with ExitStack() as stack:
        yield lambda: stack.enter_context(green.create_connection(listener.getsockname(), 30))
    server.drain(1)


def logged(observer: Observer) -> list[dict[str, Any]]:
    """Return the entries of the slow log, the oldest first."""
    observer.slow_log.write_open()
    return [json.loads(text) for text in reversed(observer.row.slow_texts(100))]


@pytest.fixture
def _a_core_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RunDelay, "ns", lambda _: 0)


@pytest.mark.timing
@pytest.mark.usefixtures("_a_core_for_itself")
def test_a_short_packet_that_takes_long_has_an_entry_the_first_time_and_is_named_the_second() -> None:
    store = MemoryStore()
    put = store.put

    def put_or_hold(request: bytes, reply: bytes) -> bytes:
        if b"hold" in request:
            time.sleep(0.3)
        return put(request, reply)

    store.put = put_or_hold  # type: ignore[method-assign]
    service, observer = observed(200, store)
    with served(service, observer) as connect:
        client = connect()
        for key in (b"hold0", b"a", b"b", b"c", b"hold1"):
            if key == b"hold1":  # the entry of the first is no longer open
                assert observer.timing.stopwatch.limit_s == 0.2
            assert observer.timing.stopwatch.short_bytes == (200_000 if key == b"hold0" else EVERY)
            client.sendall(b"KV/1.0 PUT %b 1\n" % key)
            assert client.recv(100) == b"201 CREATED\n"
            gevent.sleep(0.001)  # the turn has ended
            observer.leave_out_short(service)  # as once a second
        name = f"127.0.0.1:{client.getsockname()[1]}"
    first, second = logged(observer)
    assert (first["held"], first["client"], first["command"]) == ("loop", "", "a turn of 1 request")
    assert (second["held"], second["client"], second["command"]) == ("loop", name, "PUT hold1")
    assert first["ms"] >= 300


@pytest.mark.timing
@pytest.mark.usefixtures("_a_core_for_itself")
@pytest.mark.parametrize("how", ["a timer", "a callback", "an event"])
def test_what_is_no_packet_and_holds_the_loop_has_an_entry(how: str) -> None:
    loop = gevent.get_hub().loop
    _, observer = observed(200, MemoryStore())
    gevent.sleep(0.001)
    watcher = loop.timer(0.001) if how == "a timer" else loop.async_()
    if how == "a callback":
        loop.run_callback(time.sleep, 0.3)
    else:
        watcher.start(time.sleep, 0.3)
    if how == "an event":
        watcher.send()
    gevent.sleep(0.01)
    watcher.close()
    (entry,) = logged(observer)
    assert (entry["held"], entry["client"], entry["command"]) == ("loop", "", "a turn without requests")
    assert entry["ms"] >= 300


def test_a_server_without_a_slow_log_watches_no_turn() -> None:
    _, observer = observed(0, MemoryStore())
    gevent.sleep(0.001)
    time.sleep(0.05)
    gevent.sleep(0.001)
    assert logged(observer) == []


@pytest.mark.usefixtures("_a_core_for_itself")
def test_of_a_thousand_requests_that_are_ready_at_once_no_client_is_accused() -> None:
    store = MemoryStore()
    run = store.run

    def run_a_while(*command: Any) -> bytes:
        time.sleep(0.0003)
        return run(*command)

    store.run = run_a_while  # type: ignore[method-assign]
    service, observer = observed(100, store, Lab())
    assert observer.timing.stopwatch.short_bytes == EVERY
    with served(service, observer) as connect:
        clients = [connect() for _ in range(100)]
        for client in clients:
            client.sendall(b"KV/1.0 GET none\n" * 10)
        for client in clients:
            replies = b""
            while len(replies) < len(b"404 NOT_FOUND\n") * 10:
                replies += client.recv(1000)
    assert service.stats.commands == 1000
    assert {entry["client"] for entry in logged(observer)} == {""}


def test_the_loop_times_the_packets_that_are_longer() -> None:
    service, observer = observed(10, MemoryStore())
    told: list[int] = []
    stopwatch = observer.timing.stopwatch
    stopwatch.limit_s, stopwatch.tell = -1.0, lambda _, data, *times: told.append(len(data))
    with served(service, observer) as connect:
        client = connect()
        for line in (b"KV/1.0 GET a\n", b"KV/1.0 PUT a 1\n", b"KV/1.0 GET a\n", b"KV/1.0 DEL a\n"):
            client.sendall(line)
            assert client.recv(100)
        assert told == []
        client.sendall(b"KV/1.0 PUT a %b\n" % (b"v" * 60_000))
        assert client.recv(100) == b"201 CREATED\n"
    assert told
    assert min(told) > 10_000
