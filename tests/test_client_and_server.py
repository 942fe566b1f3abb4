"""The client library and `kvss client` with `kvss serve` itself."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kvss_gevent import KVBadRequest, KVClient, KVConnectError, Stats
from kvss_gevent.measure.launch import free_port

pytestmark = pytest.mark.server


@contextmanager
def serving(*flags: str, port: int = 0) -> Iterator[tuple[int, "subprocess.Popen[str]"]]:
    command = [sys.executable, "-m", "kvss_gevent", "serve", "127.0.0.1", str(port), *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline().rpartition(":")[2]), process
        finally:
            process.terminate()
            process.wait(20)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serving() as (port, _):
        yield port


def test_every_call(port: int) -> None:
    with KVClient("127.0.0.1", port) as kv:
        before = kv.stats()
        assert [kv.put(b"k", b"a b\r"), kv.put(b"k", "größe".encode()), kv.get(b"k")] == [True, False, "größe".encode()]
        assert [kv.delete(b"k"), kv.delete(b"k"), kv.get(b"k")] == [True, False, None]
        after = kv.stats()
    assert after.commands_processed - before.commands_processed == 7
    assert (after.put_requests, after.keys_stored, after.connections) == (2, 0, 1)


def test_a_pipeline_larger_than_all_buffers(port: int) -> None:
    value = b"v" * 900_000
    with KVClient("127.0.0.1", port) as kv:
        pipeline = kv.pipeline().put(b"big", value)
        for _ in range(40):
            pipeline.get(b"big").put(b"big", value)
        assert pipeline.delete(b"big").execute() == [True, *[value, False] * 40, True]


def test_a_line_over_the_limit_costs_only_itself(port: int) -> None:
    with KVClient("127.0.0.1", port) as kv:
        results = kv.pipeline().get(b"k").put(b"k", b"v" * 3_000_000).get(b"k").execute(raise_errors=False)
        assert [results[0], type(results[1]), results[2]] == [None, KVBadRequest, None]


def test_the_lab_form_of_stats() -> None:
    with serving("--stats-format", "lab") as (port, _), KVClient("127.0.0.1", port) as kv:
        assert [kv.get(b"a"), kv.get(b"b")] == [None, None]
        stats = kv.stats()
        assert stats == Stats(uptime_s=stats.uptime_s, keys_stored=0, commands_processed=2)


def test_a_restarted_server() -> None:
    with serving(port=free_port()) as (port, process), KVClient("127.0.0.1", port) as kv:
        kv.put(b"k", b"v")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        with pytest.raises(KVConnectError):
            kv.get(b"k")
        with serving(port=port):
            assert kv.get(b"k") is None
            assert kv.connections_made == 2


def test_kvss_client(port: int) -> None:
    command = [sys.executable, "-m", "kvss_gevent", "client", "--json", "127.0.0.1", str(port), "STATS"]
    child = subprocess.run(command, capture_output=True, timeout=30, check=True)
    assert json.loads(child.stdout)["data"].startswith("uptime: 0:")
