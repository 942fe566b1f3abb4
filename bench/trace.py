"""What events cost a request: `python -m bench.trace` compares conversations with and without them, in one process.

Each figure is the median of ROUNDS pairs, one beside the other, with the lowest and highest; CPU time of the thread.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from kvss_gevent.core.service import Service
from kvss_gevent.core.session import Session
from kvss_gevent.stores.memory import MemoryStore
from kvss_gevent.trace.flight import FlightRecorder
from kvss_gevent.trace.noted_conversation import Tracer, cpu_clock
from kvss_gevent.trace.ring import Ring

ROUNDS, REQUESTS = 41, 20_000
RATE = 10_000
GET, PUT = b"KV/1.0 GET key\n", b"KV/1.0 PUT key " + b"v" * 64 + b"\n"


def receiver(service: Service) -> Callable[[bytes], bytes]:
    """Return the receive of a new conversation whose key is there."""
    receive = service.open().receive
    receive(PUT)
    return receive


def cost_ns(receive: Callable[[bytes], bytes]) -> float:
    """Return what one GET that hits costs."""
    began_ns = time.thread_time_ns()
    for _ in range(REQUESTS):
        receive(GET)
    return (time.thread_time_ns() - began_ns) / REQUESTS


def main() -> None:
    """Print what each kind of reader adds to a request."""
    with tempfile.TemporaryDirectory() as directory:
        ring = Ring(Path(directory) / "ring", slots=1)
        kinds = {
            "flight recorder": FlightRecorder("gevent", 10).converse,
            "flight recorder, --slow-ms": FlightRecorder("gevent", 10, slow_ms=60_000).converse,
            "scene, with CPU clocks": Tracer(Session, ring.put, cpu_clock),
        }
        plain = receiver(Service(MemoryStore()))
        traced = {name: receiver(Service(MemoryStore(), converse=converse)) for name, converse in kinds.items()}
        added: dict[str, list[float]] = {name: [] for name in kinds}
        alone = []
        for _ in range(ROUNDS):
            for name, receive in traced.items():
                alone.append(cost_ns(plain))
                added[name].append(cost_ns(receive) - alone[-1])
    print(f"{'a GET without events':28} {statistics.median(alone) / 1000:.2f} us")
    for name, some in added.items():
        low, middle, high = min(some), statistics.median(some), max(some)
        share = middle * RATE / 1e9
        print(
            f"{name:28} {middle / 1000:+.2f} us ({low / 1000:+.2f} to {high / 1000:+.2f}), "
            f"{share:.1%} of a core at {RATE:,} requests a second"
        )


if __name__ == "__main__":
    main()
