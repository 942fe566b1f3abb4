"""`kvss bench` against real servers, whole and broken ones; its times and packets beside simple truths."""

import itertools
import json
import re
import resource
import socket
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from benching import QUICK, bench, outcome, refused
from reference_server import State, running, talking
from serving import serving, wait_until

from kvss_gevent import KVClient
from kvss_gevent.measure import prepared_connections
from kvss_gevent.measure.load import ClosedLoad
from kvss_gevent.measure.prepared_connections import Unusable, store_keys
from kvss_gevent.protocol.wire import Verb, parse_request


@pytest.mark.server
@pytest.mark.parametrize(("connections", "depth"), [(1, 1), (20, 1), (5, 16)])
def test_it_counts_what_the_server_counts(connections: int, depth: int) -> None:
    with serving() as server:
        done = bench(
            server.port, *QUICK, "--connections", str(connections), "--depth", str(depth), "--keys", "100", "--json"
        )
        got = outcome(done)
        with KVClient(port=server.port) as client:
            # Each key is stored once beforehand, and each connection asks once.
            counted = client.stats().commands_processed - 100 - connections
    assert done.returncode == 0
    assert got["requests"] > 0
    # Packets that were under way when time was up are answered and not counted: one for each connection.
    assert 0 <= counted - got["requests"] <= connections * depth
    assert 0 <= got["p50_us"] <= got["p99_us"] <= got["max_us"] < 40e6
    assert (got["refused"], got["lost"], got["starved"]) == ({}, 0, 0)
    assert 0 < got["cpu_share"] <= 1.1


@pytest.mark.server
def test_warming_up_is_left_out() -> None:
    with serving() as server:
        got = outcome(bench(server.port, "--seconds", "0.3", "--warmup", "1.5", "--json"))
        with KVClient(port=server.port) as client:
            assert client.stats().commands_processed > 2 * got["requests"]


@pytest.mark.server
def test_gets_and_puts_are_mixed_as_asked_and_every_get_finds_its_key() -> None:
    with serving() as server:
        done = bench(server.port, *QUICK, "--get", "25", "--value", "5000", "--keys", "7")
        assert done.returncode == 0
        with KVClient(port=server.port) as client:
            stats = client.stats()
            assert stats.get_requests is not None
            assert 0.2 < stats.get_requests / stats.commands_processed < 0.3
            assert stats.keys_stored == 7
            assert client.get(b"key:00000006") == b"x" * 5000


@pytest.mark.full
@pytest.mark.server
def test_large_packets_that_the_kernel_does_not_take_at_once() -> None:
    with serving() as server:
        done = bench(
            server.port,
            *QUICK,
            "--get",
            "50",
            "--value",
            "200000",
            "--keys",
            "5",
            "--depth",
            "20",
            "--connections",
            "2",
            "--json",
        )
        assert (done.returncode, outcome(done)["refused"]) == (0, {})


@pytest.mark.server
def test_clients_that_the_server_refuses_are_counted() -> None:
    with serving("--max-connections", "3") as server:
        done = bench(server.port, *QUICK, "--connections", "10", "--json")
        got = outcome(done)
        assert done.returncode == 1
        # The client that stored the keys may still have had a place.
        assert got["lost"] in (7, 8)
        assert got["refused"] == {"500 SERVER_ERROR": got["lost"]}
        wait_until(server.takes_clients)
        assert "refused  " in bench(server.port, *QUICK, "--connections", "10").stdout


@pytest.mark.server
@pytest.mark.timing
def test_clients_that_are_never_served_are_counted_and_waited_for_no_longer_than_said() -> None:
    with serving("--model", "sequential") as server:
        began_s = time.monotonic()
        done = bench(server.port, *QUICK, "--connections", "3")
        assert time.monotonic() - began_s < 15
        assert done.returncode == 1
        assert "starved       2 connections got no answer at all\n" in done.stdout


@pytest.mark.server
def test_a_server_that_dies_ends_the_run() -> None:
    def kill_under_load() -> None:
        try:
            # The load's four connections, this one, and gets of each of the four.
            wait_until(lambda: re.search(rb"connections: 5; .*get_requests: \d{3}", server.ask(b"KV/1.0 STATS\n")))
        finally:
            server.process.kill()

    with serving() as server, ThreadPoolExecutor(1) as pool:
        killed = pool.submit(kill_under_load)
        done = bench(server.port, "--seconds", "30", "--connections", "4", "--json")
        killed.result()
        got = outcome(done)
        assert (done.returncode, got["lost"]) == (1, 4)
        assert got["seconds"] < 20


def test_every_refusal_is_told_by_its_code() -> None:
    lines = Counter[bytes]()

    def reply_to(_: Any, line: bytes) -> tuple[bytes, bool]:
        verb, key, _ = parse_request(line)
        if verb is Verb.STATS:
            return b"200 OK", False
        lines[key] += 1
        if lines[key] == 1 and verb is Verb.PUT:
            return b"201 CREATED", False
        return [b"500 SERVER_ERROR", b"400 BAD_REQUEST", b"426 UPGRADE_REQUIRED", b"404 NOT_FOUND"][
            int(key.removeprefix(b"key:")) % 4
        ], False

    with running(talking(reply_to)) as port:
        done = bench(port, *QUICK, "--connections", "1", "--depth", "64", "--keys", "4", "--json")
    got = outcome(done)
    assert done.returncode == 1
    assert set(got["refused"]) == {"400 BAD_REQUEST", "404 NOT_FOUND", "426 UPGRADE_REQUIRED", "500 SERVER_ERROR"}
    assert sum(got["refused"].values()) == sum(lines.values()) - 4


@pytest.mark.parametrize(
    ("reply", "cause"),
    [(b"hello", "it answered 'hello' to a PUT"), (b"400 BAD_REQUEST", "it answered '400 BAD_REQUEST' to a PUT")],
)
def test_a_server_that_takes_no_keys_is_exit_code_3(reply: bytes, cause: str) -> None:
    with running(talking(lambda state, line: (reply, False))) as port:
        done = refused(port, *QUICK)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.splitlines()[0] == f"kvss bench: cannot load 127.0.0.1:{port}: {cause}"


def test_keys_are_stored_in_time_however_the_replies_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time is that of all replies, not of each packet of them. Here each look at the clock takes a second."""

    def converse(sock: socket.socket, state: State) -> None:
        while not state.stopping.is_set():
            sock.sendall(b"201 CREATED\n" * 1000)

    looks = itertools.count()
    monkeypatch.setattr(prepared_connections, "time", SimpleNamespace(monotonic=lambda: float(next(looks))))
    load = ClosedLoad(keys=1600)
    with running(converse) as port, pytest.raises(Unusable, match="1600 keys could not be stored within 5 s"):
        store_keys(("127.0.0.1", port), socket.AF_INET, load)


def test_no_server_is_exit_code_3() -> None:
    done = refused(1, *QUICK)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == (
        "kvss bench: cannot load 127.0.0.1:1: connection refused\n  Start the server first, or check the address.\n"
    )


@pytest.mark.parametrize(
    "flags",
    [
        ("--connections", "0"),
        ("--depth", "x"),
        ("--seconds", "-1"),
        ("--seconds", "nan"),
        ("--get", "101"),
        ("--value", str(1 << 20)),
        ("--value", "100000", "--depth", "100"),
    ],
)
def test_bad_words_are_exit_code_2(flags: tuple[str, ...]) -> None:
    done = refused(1, *flags)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


def test_more_connections_than_open_files_are_exit_code_2() -> None:
    command = f"ulimit -n 100; exec {sys.executable} -m kvss_gevent bench 127.0.0.1:1 --connections 50"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=50, check=False)
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] > 100
    assert done.returncode == 2
    assert "limit of open files allows, which is 100" in done.stderr


@pytest.mark.server
def test_it_tells_what_the_server_used_and_how_fair_it_was() -> None:
    with serving() as server:
        pid = str(server.process.pid)
        got = bench(server.port, *QUICK, "--server-pid", pid, "--json")
        told = json.loads(got.stdout)["outcome"]
        text = bench(server.port, *QUICK, "--server-pid", pid).stdout
        lines = {line.split()[0]: line for line in text.splitlines()}
    used = told["server"]
    assert 0.01e9 < used["cpu_ns"] <= 0.6e9, "a server at full load for half a second, or what others left of it"
    assert used["cpu_ns"] == pytest.approx(used["user_ns"] + used["system_ns"], abs=1e8)
    assert 0.9 < told["fairness"] <= 1
    assert "us of CPU for each request" in lines["server"]
    assert "Jain" in lines["fairness"]
