"""The pools: bounded, fair, health-checked; and how one AsyncKVClient carries the calls of many tasks."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from statistics import median

import pytest
from fake_server import Handler, Peer, fake_server, honest, in_turn
from serving import wait_until

from bench.client import measure
from kvss_gevent import AsyncKVClient, AsyncKVPool, KVBusy, KVConnectionLost, KVPool, KVTimeout
from kvss_gevent.client import asyncio_connection
from kvss_gevent.measure.launch import kvss, launched


def test_a_pool_has_at_most_its_size_of_connections() -> None:
    def work(number: int) -> list[object]:
        key = b"k%d" % number
        return [pool.put(key, b"v"), pool.get(key), pool.pipeline().get(key).delete(key).execute()]

    with (
        fake_server(honest()) as server,
        KVPool("127.0.0.1", server.port, size=3) as pool,
        ThreadPoolExecutor(12) as threads,
    ):
        assert list(threads.map(work, range(60))) == [[True, b"v", [b"v", True]]] * 60
        assert 1 < server.accepted <= 3


def test_an_async_pool_has_at_most_its_size_of_connections() -> None:
    async def run(port: int) -> None:
        async with AsyncKVPool("127.0.0.1", port, size=3) as pool:

            async def work(number: int) -> list[object]:
                key = b"k%d" % number
                return [await pool.put(key, b"v"), await pool.get(key), await pool.pipeline().get(key).execute()]

            assert await asyncio.gather(*map(work, range(60))) == [[True, b"v", [b"v"]]] * 60

    with fake_server(honest()) as server:
        asyncio.run(run(server.port))
        assert server.accepted == 3


def test_who_waits_longest_is_served_first() -> None:
    order: list[int] = []

    def work(number: int) -> None:
        with pool.client():
            order.append(number)

    with fake_server(honest()) as server, KVPool("127.0.0.1", server.port, size=1) as pool:
        with pool.client():
            threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
            for waiting, thread in enumerate(threads, 1):
                thread.start()
                while len(pool._leases._waiting) < waiting:
                    time.sleep(0.001)
        for thread in threads:
            thread.join(20)
    assert order == list(range(8))


def test_who_waits_longest_is_served_first_in_asyncio() -> None:
    async def run(port: int) -> list[int]:
        order: list[int] = []
        async with AsyncKVPool("127.0.0.1", port, size=1) as pool:

            async def work(number: int) -> None:
                async with pool.client():
                    order.append(number)
                    await asyncio.sleep(0)

            async with pool.client():
                tasks = [asyncio.create_task(work(number)) for number in range(8)]
                await asyncio.sleep(0.01)
                tasks[3].cancel()  # who leaves the queue holds nobody up
            await asyncio.gather(*tasks, return_exceptions=True)
        return order

    with fake_server(honest()) as server:
        assert asyncio.run(run(server.port)) == [0, 1, 2, 4, 5, 6, 7]


def test_waiting_for_a_connection_is_bounded() -> None:
    message = r"^GET k: no free connection to 127.0.0.1:\d+: all 1 of the pool were in use for 0.1 s$"

    async def run(port: int) -> None:
        async with AsyncKVPool("127.0.0.1", port, size=1, wait_s=0.1) as pool:
            async with pool.client() as kv:
                with pytest.raises(KVBusy, match=message):
                    await pool.get(b"k")
                assert await kv.get(b"k") is None
            assert await pool.get(b"k") is None

    with fake_server(honest()) as server:
        with KVPool("127.0.0.1", server.port, size=1, wait_s=0.1) as pool:
            with pool.client() as kv:
                with pytest.raises(KVBusy, match=message):
                    pool.get(b"k")
                assert kv.get(b"k") is None
            assert pool.get(b"k") is None
        asyncio.run(run(server.port))
        assert server.accepted == 2


def test_a_closed_pool_is_of_no_more_use() -> None:
    with fake_server(honest()) as server:
        pool = KVPool("127.0.0.1", server.port, size=2)
        with pool.client() as kv:
            kv.get(b"k")
            pool.close()
        with pytest.raises(RuntimeError, match="this pool is closed"):
            pool.get(b"k")
        assert not kv._connection.is_open()


def deaf_after_the_first(peer: Peer) -> None:
    """Answer one request, then take all in and say nothing, as behind a firewall that forgot the connection."""
    peer.line()
    peer.send(b"404 NOT_FOUND\n")
    peer.stall()


def test_a_connection_that_died_while_idle_is_replaced() -> None:
    options = {"size": 1, "check_after_s": 0.05, "connect_timeout_s": 0.5, "timeout_s": 20.0}

    async def run(port: int) -> None:
        async with AsyncKVPool("127.0.0.1", port, **options) as pool:
            assert await pool.get(b"k") is None
            await asyncio.sleep(0.1)
            assert await pool.put(b"k", b"v")

    with fake_server(in_turn(deaf_after_the_first, honest())) as server:
        with KVPool("127.0.0.1", server.port, **options) as pool:
            assert pool.get(b"k") is None
            time.sleep(0.1)
            assert pool.put(b"k", b"v")
        assert server.seen == [b"KV/1.0 GET k", b"KV/1.0 PUT k v"]  # nothing was read behind the first request
    with fake_server(in_turn(deaf_after_the_first, honest())) as server:
        asyncio.run(run(server.port))
        assert server.seen == [b"KV/1.0 GET k", b"KV/1.0 PUT k v"]  # nothing was read behind the first request


def packets(sizes: list[int]) -> Handler:
    """Answer 404 to every line, and note how many lines came in each packet."""

    def handle(peer: Peer) -> None:
        while data := peer.sock.recv(1 << 20):
            sizes.append(data.count(b"\n"))
            peer.send(b"404 NOT_FOUND\n" * sizes[-1])

    return handle


def test_calls_of_many_tasks_go_out_together() -> None:
    async def run(port: int) -> None:
        async with AsyncKVClient("127.0.0.1", port) as kv:
            await kv.connect()
            assert await asyncio.gather(*[kv.get(b"k%d" % number) for number in range(500)]) == [None] * 500

    sizes: list[int] = []
    with fake_server(packets(sizes)) as server:
        asyncio.run(run(server.port))
        assert server.accepted == 1
    assert sum(sizes) == 500
    assert len(sizes) <= 4


def test_more_calls_than_may_be_owed_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio_connection, "MAX_OWED", 10)
    most = 0

    async def run(port: int) -> None:
        nonlocal most
        async with AsyncKVClient("127.0.0.1", port, timeout_s=5) as kv:
            await kv.connect()
            calls = [asyncio.create_task(kv.get(b"k%d" % number)) for number in range(200)]
            while not all(call.done() for call in calls):
                assert kv._connection is not None
                most = max(most, len(kv._connection._owed))
                await asyncio.sleep(0)
            assert [call.result() for call in calls] == [None] * 200

    with fake_server(honest()) as server:
        asyncio.run(run(server.port))
    assert most == 10


def test_a_cancelled_call_keeps_the_others_in_step() -> None:
    cancelled = threading.Event()

    def echo(peer: Peer) -> None:
        while line := peer.line():
            assert not line.endswith(b"slow") or cancelled.wait(20)
            peer.send(b"200 OK " + line[11:] + b"\n")

    async def run(port: int) -> None:
        async with AsyncKVClient("127.0.0.1", port, timeout_s=20) as kv:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(kv.get(b"slow"), 0.01)
            cancelled.set()
            assert await asyncio.gather(kv.get(b"a"), kv.get(b"b")) == [b"a", b"b"]
            assert kv.connections_made == 1

    with fake_server(echo) as server:
        asyncio.run(run(server.port))


def test_one_late_reply_fails_those_behind_it_and_says_why() -> None:
    async def run(port: int) -> list[object]:
        async with AsyncKVClient("127.0.0.1", port, timeout_s=0.1) as kv:
            return await asyncio.gather(kv.get(b"a"), kv.get(b"b"), return_exceptions=True)

    with fake_server(Peer.stall) as server:
        first, second = asyncio.run(run(server.port))
    assert isinstance(first, KVTimeout)
    assert isinstance(second, KVConnectionLost)
    assert str(second).startswith("GET b: lost the connection")
    assert "a reply before this one is missing: none came within 0.1 s" in str(second)


def test_a_client_may_be_used_in_one_event_loop_after_another() -> None:
    kv = AsyncKVClient

    async def get(client: AsyncKVClient) -> bytes | None:
        value = await client.get(b"k")
        await client.close()
        return value

    with fake_server(honest()) as server:
        client = kv("127.0.0.1", server.port)
        assert [asyncio.run(get(client)), asyncio.run(get(client))] == [None, None]
        assert client.connections_made == 2


def test_a_slow_event_loop_does_not_lose_a_close_that_came() -> None:
    """The server closes an idle connection while the program computes: the next write is sent on a new connection."""
    idle = threading.Event()

    def close(peer: Peer) -> None:
        peer.line()
        peer.send(b"404 NOT_FOUND\n")
        idle.wait(20)

    async def run(port: int) -> None:
        async with AsyncKVClient("127.0.0.1", port) as kv:
            await kv.get(b"k")
            idle.set()
            wait_until(lambda: server.ended == 1)
            time.sleep(1.1)
            assert await kv.put(b"k", b"v")

    with fake_server(in_turn(close, honest())) as server:
        asyncio.run(run(server.port))


@pytest.mark.server
@pytest.mark.timing
def test_tasks_reach_half_of_a_pipeline_and_an_async_call_costs_at_most_two_of_a_thread() -> None:
    with launched(kvss()) as server:
        cpu, rates = asyncio.run(measure(server.port, rounds=9, calls=3000))
    assert median(tasks / pipeline for pipeline, tasks in rates) >= 0.5
    assert median(asynchronous / sync for sync, asynchronous in cpu) <= 2.0
