"""What is tried again and what never is, with a server that runs every request and loses every third reply."""

import asyncio
import threading
from collections import Counter
from typing import Any

import pytest
from fake_server import FakeServer, Handler, Peer, answering, fake_server, honest, in_turn

from kvss_gevent import (
    AsyncKVClient,
    AsyncKVPool,
    KVClient,
    KVConnectError,
    KVConnectionLost,
    KVError,
    KVPool,
    KVServerError,
    KVTimeout,
    Retry,
)
from kvss_gevent.measure.launch import free_port

QUICK = Retry(attempts=8, pause_s=0.001, max_pause_s=0.002)
TASKS = 8


def losing_every_third_reply() -> Handler:
    """Run every request and answer it, but close the connection instead of every third reply."""
    lock = threading.Lock()
    number = 0

    def handle(peer: Peer) -> None:
        nonlocal number
        while line := peer.line():
            with lock:
                number += 1
                lost = number % 3 == 0
            if lost:
                return
            peer.send(b"201 CREATED\n" if line.startswith(b"KV/1.0 PUT") else b"404 NOT_FOUND\n")

    return handle


def is_write(number: int) -> bool:
    return number % 7 < 4  # in step with no third


def run_sync(face: Any, server: FakeServer, operations: int) -> list[tuple[bytes, object]]:
    results: list[tuple[bytes, object]] = []
    with face("127.0.0.1", server.port, retry=QUICK) as kv:
        for number in range(operations):
            key = b"%d" % number
            try:
                results.append((key, kv.put(key, b"v") if is_write(number) else kv.get(key)))
            except KVError as error:
                results.append((key, error))
    return results


def run_async(face: Any, server: FakeServer, operations: int) -> list[tuple[bytes, object]]:
    results: list[tuple[bytes, object]] = []

    async def run() -> None:
        async with face("127.0.0.1", server.port, retry=QUICK) as kv:

            async def work(first: int) -> None:
                for number in range(first, operations, TASKS):
                    key = b"%d" % number
                    try:
                        results.append((key, await (kv.put(key, b"v") if is_write(number) else kv.get(key))))
                    except KVError as error:
                        results.append((key, error))

            await asyncio.gather(*map(work, range(TASKS)))

    asyncio.run(run())
    return results


def check_that_no_write_is_repeated(face: Any, operations: int) -> None:
    run = run_async if "Async" in face.__name__ else run_sync
    with fake_server(losing_every_third_reply()) as server:
        results = run(face, server, operations)
        seen = Counter(server.seen)
    assert len(results) == operations
    lost_writes = repeated_reads = 0
    for key, result in results:
        if is_write(int(key)):
            times = seen[b"KV/1.0 PUT %s v" % key]
            assert times <= 1, f"PUT {key!r} ran {times} times"
            if isinstance(result, KVError):
                lost_writes += 1
                assert type(result) in (KVConnectionLost, KVConnectError)
                assert type(result) is KVConnectionLost or times == 0
            else:
                assert (result, times) == (True, 1)
        else:
            repeated_reads += seen[b"KV/1.0 GET %s" % key] > 1
            assert result is None or isinstance(result, KVConnectionLost)
    assert lost_writes > operations / 10
    assert repeated_reads > operations / 50


FACES = (KVClient, KVPool, AsyncKVClient, AsyncKVPool)


@pytest.mark.parametrize("face", FACES)
def test_no_write_that_may_have_run_is_repeated(face: Any) -> None:
    check_that_no_write_is_repeated(face, 600)


@pytest.mark.full
@pytest.mark.timeout(600)
@pytest.mark.parametrize("face", [KVClient, AsyncKVClient])
def test_no_write_of_100000_is_repeated(face: Any) -> None:
    check_that_no_write_is_repeated(face, 100_000)


def silent_then(*replies: bytes) -> Handler:
    return in_turn(lambda peer: (peer.line(), peer.stall())[1], answering(*replies))


def test_a_read_is_tried_again_after_a_timeout_and_a_write_is_not() -> None:
    options: dict[str, Any] = {"timeout_s": 0.1, "retry": QUICK}
    with fake_server(silent_then(b"200 OK v")) as server, KVClient("127.0.0.1", server.port, **options) as kv:
        assert kv.get(b"k") == b"v"
    with fake_server(silent_then(b"201 CREATED")) as server, KVClient("127.0.0.1", server.port, **options) as kv:
        with pytest.raises(KVTimeout):
            kv.put(b"k", b"v")
        assert server.seen == [b"KV/1.0 PUT k v"]


@pytest.mark.parametrize("writes", [True, False])
def test_a_pipeline_is_tried_again_only_where_all_of_it_reads(writes: bool) -> None:
    cut = in_turn(answering(b"404 NOT_FOUND"), answering(b"404 NOT_FOUND", b"404 NOT_FOUND"))
    with fake_server(cut) as server, KVClient("127.0.0.1", server.port, retry=QUICK) as kv:
        pipeline = kv.pipeline().get(b"a")
        if writes:
            with pytest.raises(KVConnectionLost) as caught:
                pipeline.delete(b"b").execute()
            assert caught.value.results == [None]
            assert server.accepted == 1
        else:
            assert pipeline.get(b"b").execute() == [None, None]


def test_a_refusal_and_a_raw_request_are_not_tried_again() -> None:
    with (
        fake_server(answering(b"500 SERVER_ERROR")) as server,
        KVClient("127.0.0.1", server.port, retry=QUICK) as kv,
    ):
        with pytest.raises(KVServerError):
            kv.get(b"k")
        assert server.accepted == 1
    with fake_server(answering()) as server, KVClient("127.0.0.1", server.port, retry=QUICK) as kv:
        with pytest.raises(KVConnectionLost):
            kv.request(b"KV/1.0 GET k")
        assert server.accepted == 1


def test_a_write_that_was_not_sent_is_tried_until_the_server_is_there() -> None:
    port = free_port()
    kv = KVClient("127.0.0.1", port, retry=Retry(attempts=400, pause_s=0.05, max_pause_s=0.05))
    done: list[bool] = []
    thread = threading.Thread(target=lambda: done.append(kv.put(b"k", b"v")))
    thread.start()
    with fake_server(honest(), port) as server:
        thread.join(20)
        assert (done, server.seen) == ([True], [b"KV/1.0 PUT k v"])
        kv.close()


def test_the_attempts_and_the_pauses_have_a_limit() -> None:
    retry = Retry(attempts=4, pause_s=0.1, max_pause_s=0.25)
    error = KVConnectError("127.0.0.1", 5050, "refused")
    for tries, most_s in ((1, 0.1), (2, 0.2), (3, 0.25)):
        pauses = [retry.pause_before_next_s(tries, error, reads=False) for _ in range(50)]
        assert all(pause is not None and 0 <= pause <= most_s for pause in pauses)
        assert len(set(pauses)) > 1
    assert retry.pause_before_next_s(4, error, reads=True) is None
