"""What a call costs in the client library: CPU of a call in each class, and how close batching comes to a pipeline.

Run as `python -m bench.client`; about 20 seconds. The runs alternate, and the ratios are taken round by round.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Callable, Coroutine
from typing import Any

from kvss_gevent import AsyncKVClient, KVClient
from kvss_gevent.measure.launch import kvss, launched

DEPTH = 100


def main() -> None:
    """Print CPU and rates, the median of all rounds with the least and the most."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=3000, help="per round and class")
    args = parser.parse_args()
    with launched(kvss()) as server:
        cpu, rates = asyncio.run(measure(server.port, args.rounds, args.calls))
    show("KVClient, CPU us a call", [sync for sync, _ in cpu])
    show("AsyncKVClient, CPU us a call", [other for _, other in cpu])
    show("  times KVClient (at most 2.0)", [other / sync for sync, other in cpu])
    show(f"pipeline of {DEPTH}, calls a second", [pipeline for pipeline, _ in rates])
    show(f"{DEPTH} tasks, calls a second", [tasks for _, tasks in rates])
    show("  share of the pipeline (at least 0.5)", [tasks / pipeline for pipeline, tasks in rates])


def show(name: str, values: list[float]) -> None:
    """Print one figure."""
    print(f"{name:40}{statistics.median(values):12.2f}   ({min(values):.2f} to {max(values):.2f})")


async def measure(port: int, rounds: int, calls: int) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Return CPU microseconds (sync, async) and rates (pipeline, tasks) of each round."""
    cpu, rates = [], []
    async with AsyncKVClient("127.0.0.1", port) as kv:
        with KVClient("127.0.0.1", port) as beside:
            beside.put(b"k", b"v" * 64)
            for _ in range(rounds):
                begin = time.process_time()
                for _ in range(calls):
                    beside.get(b"k")
                middle = time.process_time()
                await in_a_row(kv, calls)
                cpu.append(((middle - begin) / calls * 1e6, (time.process_time() - middle) / calls * 1e6))
                rates.append((await rate(pipelines, kv, calls), await rate(tasks, kv, calls)))
    return cpu, rates


async def rate(work: Callable[..., Coroutine[Any, Any, None]], kv: AsyncKVClient, calls: int) -> float:
    """Return the calls a second that a way of asking reaches."""
    begin = time.perf_counter()
    await work(kv, calls)
    return calls / (time.perf_counter() - begin)


async def in_a_row(kv: AsyncKVClient, calls: int) -> None:
    """Ask one after the other."""
    for _ in range(calls):
        await kv.get(b"k")


async def tasks(kv: AsyncKVClient, calls: int) -> None:
    """Ask from many tasks at once."""
    await asyncio.gather(*[in_a_row(kv, calls // DEPTH) for _ in range(DEPTH)])


async def pipelines(kv: AsyncKVClient, calls: int) -> None:
    """Ask in pipelines built by hand."""
    for _ in range(calls // DEPTH):
        pipeline = kv.pipeline()
        for _ in range(DEPTH):
            pipeline.get(b"k")
        await pipeline.execute()


if __name__ == "__main__":
    main()
