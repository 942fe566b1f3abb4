"""The slow log of a running server: planted culprits are found, no victim is accused, and SLOWLOG tells them."""

import gc
import json
import re
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gevent
import pytest
from serving import Served, serving, wait_until
from slow_calls import MS, Client

from kvss_gevent.cli import main
from kvss_gevent.core.service import Service
from kvss_gevent.observe.observer import Observer
from kvss_gevent.observe.shared_figures import SharedFigures
from kvss_gevent.observe.slow_log import read_slow_log
from kvss_gevent.stores.memory import MemoryStore
from kvss_gevent.trace.scenes.stalling_store import StallingStore


def asked_of(server: Served, most: int = 1000) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(server.ask(b"KV/1.0 SLOWLOG %d\n" % most).removeprefix(b"200 OK "))
    return found


def pinging(server: Served, stop: threading.Event) -> Iterator[threading.Thread]:
    def ping() -> None:
        with server.connect(30) as sock:
            while not stop.is_set():
                sock.sendall(b"KV/1.0 GET ping\n")
                sock.recv(100)

    assert server.ask(b"KV/1.0 PUT ping 1\n") == b"201 CREATED\n"
    for _ in range(4):
        thread = threading.Thread(target=ping)
        thread.start()
        yield thread


def run_delay_ms(pid: int) -> float:
    """Return for how long a process was ready and had no core; 0 where the system does not tell."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / MS
    except OSError:
        return 0


def judged(server: Served, plants: int, ms: int, slow_ms: int = 20) -> None:
    """Plant culprits among clients that ask all the time: each is found, and no client that only asked is accused.

    A plant during which the server had no core for so long that the rest is not slow may be found or not.
    """
    stop = threading.Event()
    threads = list(pinging(server, stop))
    planted, certain = [], []
    try:
        for number in range(plants):
            line = b"KV/1.0 %b %d.%03d\n" % ((b"BURN", b"SLEEP")[number % 2], ms, number)
            with server.connect(30) as sock:
                name = f"127.0.0.1:{sock.getsockname()[1]}"
                before_ms = run_delay_ms(server.pid)
                sock.sendall(line)
                assert sock.recv(100) == b"200 OK\n"
                without_core_ms = run_delay_ms(server.pid) - before_ms
            planted.append((name, line[7:-1].decode()))
            if ms - without_core_ms > slow_ms:
                certain.append(planted[-1])
            time.sleep(0.002)
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
    entries = asked_of(server)["entries"]
    accused = [(entry["client"], entry["command"]) for entry in entries if entry["held"] == "loop" and entry["client"]]
    assert set(accused) <= set(planted)
    assert len(set(accused) & set(certain)) >= len(certain) * 0.99
    assert any(entry["waited"] for entry in entries)


@pytest.fixture
def no_long_collections() -> Iterator[None]:
    """Keep the garbage collector from walking through all that other tests have left, as a server does at its start."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.timing
@pytest.mark.usefixtures("no_long_collections")
def test_a_planted_slow_command_of_the_store_is_found_and_those_who_went_on_meanwhile_are_not_accused() -> None:
    figures = SharedFigures(1)
    observer = Observer(figures.rows[0], 0, 20)
    service = Service(StallingStore(MemoryStore(), gevent.sleep), tally=observer)
    observer.slow_log.begin(observer.timing.set_limit, may_wait=True)
    done = []

    def ask(port: int, packets: Sequence[bytes]) -> None:
        receive = observer.timed(Client(("127.0.0.1", port)), service.open().receive, True)
        for packet in packets:
            receive(packet)
            gevent.sleep(0.001)
        done.append(port)

    def look() -> None:
        """Do what a server's timer does, so that nobody is accused of what the machine took."""
        while True:
            gevent.sleep(observer.slow_log.look_s)
            observer.slow_log.look_at_delay()

    looking = gevent.spawn(look)
    # Far above the limit: what the machine takes of such a wait is not the store's.
    asking = [gevent.spawn(ask, 1, [b"KV/1.0 GET stall:100:%d\n" % number for number in range(10)])]
    asking += [gevent.spawn(ask, port, [b"KV/1.0 GET ping\n"] * 200) for port in (2, 3)]
    gevent.joinall(asking, timeout=20)
    looking.kill()
    assert sorted(done) == [1, 2, 3]
    entries = json.loads(read_slow_log(figures, 20, 100))["entries"]
    found = {(entry["held"], entry["command"]) for entry in entries if entry["held"] != "machine"}
    planted = {("store", f"GET stall:100:{number}") for number in range(10)}
    assert found <= planted
    # Where the machine stood still meanwhile, it is named in place of the store.
    assert len(planted - found) <= sum(entry["held"] == "machine" for entry in entries) < 10


def test_the_newest_entries_are_read_and_no_more_than_are_wanted() -> None:
    row = SharedFigures(1).rows[0]
    assert row.slow_texts(5) == []
    for number in range(200):
        row.write_slow(number, b"%d" % number)
        row["slow"] = number + 1
    assert row.slow_texts(2) == [b"199", b"198"]
    assert row.slow_texts(1000) == [b"%d" % number for number in range(199, 71, -1)]


@pytest.mark.server
@pytest.mark.timing
def test_planted_culprits_are_found_and_no_victim_is_accused() -> None:
    with serving("--lab", "--slow-ms", "20") as server:
        judged(server, 10, 30)


@pytest.mark.server
@pytest.mark.full
def test_of_a_hundred_planted_culprits_99_are_found(tmp_path: Any) -> None:
    for store in ("memory:", f"disk:{tmp_path}/data"):
        with serving("--lab", "--slow-ms", "20", "--store", store) as server:
            judged(server, 100, 40)


@pytest.mark.server
def test_the_event_loop_that_gevent_has_elsewhere_has_a_slow_log_too() -> None:
    with serving("--slow-ms", "20", "--lab", env={"GEVENT_LOOP": "libuv"}) as server:
        assert server.ask(b"KV/1.0 SLEEP 40\n") == b"200 OK\n"
        assert "SLEEP 40" in [entry["command"] for entry in asked_of(server)["entries"]]


@pytest.mark.server
def test_slowlog_tells_busy_clients_and_what_any_worker_knows(tmp_path: Any) -> None:
    workers = ("--workers", "2", "--store", f"disk:{tmp_path}/data", "--sync", "none")
    with serving("--lab", "--slow-ms", "10", *workers) as server, server.connect(30) as sock:
        sock.sendall(b"KV/1.0 SLEEP 30\n")
        assert sock.recv(100) == b"200 OK\n"
        # A server that loses its core has other entries, too.
        wait_until(lambda: "SLEEP 30" in [one["command"] for one in asked_of(server)["entries"]])
        name = f"127.0.0.1:{sock.getsockname()[1]}"

        def is_busy() -> bool:
            sock.sendall(b"KV/1.0 GET none\n")  # each worker looks once a second who was busy since it last looked
            assert sock.recv(100) == b"404 NOT_FOUND\n"
            return name in [one["client"] for one in asked_of(server)["clients"]]

        wait_until(is_busy)
        assert asked_of(server)["slow_ms"] == 10


@pytest.mark.server
def test_a_strict_server_knows_no_slowlog() -> None:
    with serving("--strict") as server:
        assert server.ask(b"KV/1.0 SLOWLOG\n") == b"400 BAD_REQUEST\n"
    with serving() as server:
        assert asked_of(server) == {"slow_ms": 0, "entries": [], "clients": []}


@pytest.mark.parametrize("other", [["--lab"], ["--users", "file"]])
def test_strict_is_refused_together_with_what_it_leaves_away(
    other: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--strict", *other, "--check-config"]) == 2
    assert re.match(r"kvss serve: --strict and --(lab|users) cannot be used together\n", capsys.readouterr().err)
