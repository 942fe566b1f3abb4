"""The client library against an honest server: results, refusals before sending, pipelines, threads and greenlets."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from fake_server import FakeServer, Peer, answering, fake_server, honest, in_turn

from kvss_gevent import KVBadRequest, KVBusy, KVClient, KVServerError, KVStatusError, KVUpgradeRequired, Stats


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server(honest()) as server:
        yield server


@pytest.fixture
def kv(server: FakeServer) -> Iterator[KVClient]:
    with KVClient("127.0.0.1", server.port, timeout_s=10) as kv:
        yield kv


def test_get_put_delete(kv: KVClient) -> None:
    assert kv.get(b"name") is None
    assert kv.put(b"name", b"John") is True
    assert kv.put(b"name", "Jörg  the 2nd ".encode()) is False
    assert kv.get(b"name") == "Jörg  the 2nd ".encode()
    assert kv.delete(b"name") is True
    assert kv.delete(b"name") is False
    assert kv.stats() == Stats(uptime_s=323, keys_stored=0, commands_processed=6)
    assert kv.connections_made == 1


@pytest.mark.parametrize("data", [b"\r", b"a\r", b"a\r\r", b"\ra", b"\x00"])
def test_carriage_returns_arrive(kv: KVClient, data: bytes) -> None:
    kv.put(b"k" + data, data)
    assert kv.get(b"k" + data) == data
    assert kv.delete(b"k" + data)


@pytest.mark.parametrize("key", [b"", b"a b", b"a\nb", b"\xff", b"k" * 512])
def test_an_impossible_key_is_not_sent(server: FakeServer, kv: KVClient, key: bytes) -> None:
    for call in (kv.get, kv.delete, lambda key: kv.put(key, b"v"), kv.pipeline().get):
        with pytest.raises(ValueError, match="key"):
            call(key)
    assert server.accepted == 0


@pytest.mark.parametrize("value", [b"", b"a\nKV/1.0 DEL b", b"\xc3"])
def test_an_impossible_value_is_not_sent(server: FakeServer, kv: KVClient, value: bytes) -> None:
    for call in (kv.put, kv.pipeline().put):
        with pytest.raises(ValueError, match="value"):
            call(b"k", value)
    assert server.accepted == 0


def test_text_is_not_bytes(server: FakeServer, kv: KVClient) -> None:
    with pytest.raises(TypeError, match="a key is bytes, not str"):
        kv.get("name")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a value is bytes, not int"):
        kv.put(b"name", 5)  # type: ignore[arg-type]
    assert server.accepted == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"port": 0}, "a port is 1 to 65535, not 0"),
        ({"port": 65536}, "a port is 1 to 65535"),
        ({"timeout_s": 0}, "timeout_s is above 0"),
        ({"timeout_s": float("nan")}, "timeout_s is above 0"),
        ({"connect_timeout_s": float("inf")}, "connect_timeout_s is above 0"),
        ({"max_reply_bytes": 0}, "max_reply_bytes is at least 1"),
    ],
)
def test_options_out_of_range(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KVClient(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (b"400 BAD_REQUEST", KVBadRequest),
        (b"426 UPGRADE_REQUIRED", KVUpgradeRequired),
        (b"500 SERVER_ERROR", KVServerError),
    ],
)
def test_a_refusal_is_an_error_and_the_connection_stays(reply: bytes, kind: type[KVStatusError]) -> None:
    with fake_server(answering(*[reply] * 4, b"200 OK v")) as server, KVClient("127.0.0.1", server.port) as kv:
        for call in (partial(kv.get, b"k"), partial(kv.put, b"k", b"v"), partial(kv.delete, b"k"), kv.stats):
            with pytest.raises(kind, match=f"^[A-Z]+( k)?: 127.0.0.1:{server.port} answered {reply.decode()}$"):
                call()
        assert kv.get(b"k") == b"v"
        assert server.accepted == 1


def test_a_raw_request_goes_and_comes_as_it_is(server: FakeServer, kv: KVClient) -> None:
    assert kv.request(b"WRONG/1.0 GET test") == b"426 UPGRADE_REQUIRED"
    assert kv.request(b"KV/1.0 PUT k v\r") == b"201 CREATED"
    assert kv.request(b"KV/1.0 GET k") == b"200 OK v\r"
    assert server.seen == [b"WRONG/1.0 GET test", b"KV/1.0 PUT k v\r\r", b"KV/1.0 GET k"]
    with pytest.raises(ValueError, match="line feed"):
        kv.request(b"KV/1.0 GET k\nKV/1.0 DEL k")
    assert len(server.seen) == 3


@pytest.mark.parametrize("line", [b"KV/1.0 QUIT", b"GET / HTTP/1.1"])
def test_a_line_after_which_the_server_closes(line: bytes) -> None:
    def close_late(peer: Peer) -> None:
        peer.line()
        peer.send(b"200 OK bye\n" if b"QUIT" in line else b"426 UPGRADE_REQUIRED\n")
        peer.stop.wait(0.1)

    with fake_server(in_turn(close_late, answering(b"200 OK v"))) as server, KVClient("127.0.0.1", server.port) as kv:
        kv.request(line)
        assert kv.get(b"k") == b"v"


def test_connecting_is_lazy_and_closing_is_not_final(server: FakeServer, kv: KVClient) -> None:
    assert kv.connections_made == 0
    kv.connect()
    kv.connect()
    assert kv.connections_made == 1
    kv.close()
    kv.close()
    assert kv.get(b"k") is None
    assert kv.connections_made == 2
    assert repr(kv) == f"KVClient('127.0.0.1', {server.port})"


def test_a_pipeline_answers_in_order(server: FakeServer, kv: KVClient) -> None:
    pipeline = kv.pipeline()
    assert pipeline.execute() == []
    assert server.accepted == 0
    pipeline.put(b"a", b"1").put(b"a", b"2").get(b"a").get(b"b").stats().delete(b"a").delete(b"a")
    assert len(pipeline) == 7
    assert pipeline.execute() == [True, False, b"2", None, Stats(323, 1, 6), True, False]
    assert len(pipeline) == 0
    assert pipeline.get(b"a").execute() == [None]
    assert server.accepted == 1


def test_a_pipeline_arrives_whole_before_it_waits() -> None:
    def handle(peer: Peer) -> None:
        lines = [peer.line() for _ in range(3)]
        peer.send(b"".join(b"200 OK %d\n" % len(line) for line in lines))

    with fake_server(handle) as server, KVClient("127.0.0.1", server.port, timeout_s=10) as kv:
        assert kv.pipeline().get(b"a").get(b"aa").get(b"aaa").execute() == [b"12", b"13", b"14"]


def test_a_refused_request_in_a_pipeline() -> None:
    replies = (b"201 CREATED", b"400 BAD_REQUEST", b"500 SERVER_ERROR", b"200 OK v")
    with fake_server(answering(*replies)) as server, KVClient("127.0.0.1", server.port) as kv:
        pipeline = kv.pipeline()
        results = pipeline.put(b"k", b"v").get(b"a").get(b"b").get(b"k").execute(raise_errors=False)
        assert [type(result) for result in results] == [bool, KVBadRequest, KVServerError, bytes]
        kv.close()
        with pytest.raises(KVBadRequest) as caught:
            pipeline.put(b"k", b"v").get(b"a").get(b"b").get(b"k").execute()
        assert [type(result) for result in caught.value.results] == [bool, KVBadRequest, KVServerError, bytes]
        assert len(pipeline) == 0


def test_a_pipeline_larger_than_all_buffers() -> None:
    """The server does not read while it writes, and the socket buffers hold a small part: who only sends hangs."""
    value = b"v" * 900_000
    with fake_server(honest()) as server, KVClient("127.0.0.1", server.port, timeout_s=20) as kv:
        pipeline = kv.pipeline()
        for number in range(30):
            pipeline.put(b"k%d" % number, value)
            for _ in range(3):
                pipeline.get(b"k%d" % number)
        assert pipeline.execute() == [True, value, value, value] * 30


def test_threads_may_share_a_client(kv: KVClient) -> None:
    def work(number: int) -> None:
        key = b"k%d" % number
        for step in range(50):
            kv.put(key, b"%d" % step)
            assert kv.pipeline().get(key).get(b"nothing").execute() == [b"%d" % step, None]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert kv.connections_made == 1


def test_waiting_for_another_thread_is_bounded() -> None:
    asked, busy = threading.Event(), threading.Event()

    def handle(peer: Peer) -> None:
        for _ in range(100):
            peer.line()
            asked.set()
            busy.wait(0.1)
            peer.send(b"404 NOT_FOUND\n")

    with fake_server(handle) as server, KVClient("127.0.0.1", server.port, timeout_s=1.5) as kv:
        pipeline = kv.pipeline()
        for _ in range(100):
            pipeline.get(b"k")
        with ThreadPoolExecutor(1) as pool:
            slow = pool.submit(pipeline.execute)
            assert asked.wait(20)
            with pytest.raises(KVBusy, match=r"^GET k: no free connection to .*: other calls kept it for 1.5 s$"):
                kv.get(b"k")
            busy.set()
            assert slow.result() == [None] * 100  # each reply was in time


GREENLETS = """
import sys
{first}
{second}
import gevent
port = int(sys.argv[1])

def alone(number):
    with KVClient("127.0.0.1", port, timeout_s=20) as kv:
        return kv.put(b"k%d" % number, b"v")   # answered only when all of them are waiting

jobs = [gevent.spawn(alone, number) for number in range(8)]
gevent.joinall(jobs, raise_error=True)
assert [job.value for job in jobs] == [True] * 8

shared = KVClient("127.0.0.1", port, timeout_s=20)
jobs = [gevent.spawn(shared.get, b"k%d" % number) for number in range(8)]
gevent.joinall(jobs, raise_error=True)
assert [job.value for job in jobs] == [b"k%d" % number for number in range(8)]
assert shared.pipeline().get(b"a").get(b"b" * 500).execute() == [b"a", b"b" * 500]

try:
    with gevent.Timeout(0.2):
        shared.get(b"late")
except gevent.Timeout:
    assert shared.get(b"right") == b"right"
    print("done", shared.connections_made)
"""


@pytest.mark.parametrize("patched_first", [True, False])
def test_greenlets_in_a_patched_program(patched_first: bool) -> None:
    together = threading.Barrier(8)

    def handle(peer: Peer) -> None:
        while line := peer.line():
            key = line.split()[2]
            if b"PUT" in line:
                together.wait(15)
                peer.send(b"201 CREATED\n")
            elif key == b"late":
                peer.line()  # of a client that uses the connection again, which would take the late reply for its own
                peer.send(b"200 OK late\n")
            else:
                peer.send(b"200 OK %s\n" % key)

    steps = ["from gevent import monkey; monkey.patch_all()", "from kvss_gevent import KVClient"]
    first, second = steps if patched_first else reversed(steps)
    with fake_server(handle) as server:
        child = subprocess.run(
            [sys.executable, "-c", GREENLETS.format(first=first, second=second), str(server.port)],
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
    assert (child.returncode, child.stdout, child.stderr) == (0, "done 2\n", "")
