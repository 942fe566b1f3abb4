"""What events cost a request: `python -m bench.trace` compares conversations with and without them, in one process.

Each figure compares the least of ROUNDS slices, with and without in turn, which other programs move little; then the
median of the pairs. CPU time of the thread. A CPU clock reads the thread's time at most every 20 us, so there are two rows
for it: requests that follow each other at once, and requests APART_NS apart, as those of a scene are.
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

ROUNDS, REQUESTS = 151, 2_000
APART_NS = 25_000
RATE = 10_000
GET, PUT = b"KV/1.0 GET key\n", b"KV/1.0 PUT key " + b"v" * 64 + b"\n"


def receiver(service: Service) -> Callable[[bytes], bytes]:
    """Return the receive of a new conversation whose key is there."""
    receive = service.open().receive
    receive(PUT)
    return receive


def cost_ns(receive: Callable[[bytes], bytes], apart_ns: int) -> float:
    """Return what one GET that hits costs, and a pause behind it in which the thread does not sleep."""
    monotonic = time.monotonic_ns
    began_ns = time.thread_time_ns()
    for _ in range(REQUESTS):
        receive(GET)
        if apart_ns:
            until_ns = monotonic() + apart_ns
            while monotonic() < until_ns:
                pass
    return (time.thread_time_ns() - began_ns) / REQUESTS


def main() -> None:
    """Print what each kind of reader adds to a request."""
    with tempfile.TemporaryDirectory() as directory:
        ring = Ring(Path(directory) / "ring", slots=1)
        kinds = {
            "flight recorder": FlightRecorder("gevent", 10).converse,
            "flight recorder, --slow-ms": FlightRecorder("gevent", 10, slow_ms=60_000).converse,
            "scene, with CPU clocks": Tracer(Session, ring.put, cpu_clock),
            "scene, requests apart": Tracer(Session, ring.put, cpu_clock),
        }
        apart_ns = {"scene, requests apart": APART_NS}
        plain = receiver(Service(MemoryStore()))
        traced = {name: receiver(Service(MemoryStore(), converse=converse)) for name, converse in kinds.items()}
        pairs: dict[str, list[tuple[float, float]]] = {name: [] for name in kinds}
        for _ in range(ROUNDS):
            for name, receive in traced.items():
                pause_ns = apart_ns.get(name, 0)
                pairs[name].append((cost_ns(plain, pause_ns), cost_ns(receive, pause_ns)))
    for name, some in pairs.items():
        least_ns = min(with_ns for _, with_ns in some) - min(without_ns for without_ns, _ in some)
        middle_ns = statistics.median(with_ns - without_ns for without_ns, with_ns in some)
        print(
            f"{name:28} {least_ns / 1000:+.2f} us (median of the pairs {middle_ns / 1000:+.2f}), "
            f"{least_ns * RATE / 1e9:.2%} of a core at {RATE:,} requests a second"
        )


if __name__ == "__main__":
    main()
