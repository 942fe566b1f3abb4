"""What events in a conversation cost (`python -m bench.trace events`), and what a tap costs (`bench.trace tap`).

Figures are differences of the least of many slices, with and without in turn, which other programs move little, and the
median of the pairs. Events: CPU time of the thread, in one process. A CPU clock reads the thread's time at most every
20 us, so there are two rows for it: requests that follow each other at once, and requests APART_NS apart, as those of
a scene are. Tap: one request at a time to the same server, directly and through it; a slice's figure is its median.
"""

import argparse
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from kvss_gevent.core.service import Service
from kvss_gevent.core.session import Session
from kvss_gevent.measure.launch import free_port, kvss, launched
from kvss_gevent.measure.process_usage import cpu_ns
from kvss_gevent.stores.memory import MemoryStore
from kvss_gevent.trace.flight import FlightRecorder
from kvss_gevent.trace.noted_conversation import Tracer, cpu_clock
from kvss_gevent.trace.ring import Ring

ROUNDS, REQUESTS = 151, 2_000
APART_NS = 25_000
RATE = 10_000
TAP_PAIRS, TAP_SLICE, LIMIT_S = 300, 100, 10.0
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


def events() -> None:
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


def p50_us(sock: socket.socket) -> float:
    """Return the median time of a slice."""
    times = []
    for _ in range(TAP_SLICE):
        began_ns = time.perf_counter_ns()
        sock.sendall(GET)
        sock.recv(100)
        times.append(time.perf_counter_ns() - began_ns)
    return statistics.median(times) / 1000


def tap_added() -> None:
    """Print what each way of using a tap adds to a request, and the tap's CPU time."""
    with launched(kvss()) as server, tempfile.TemporaryDirectory() as directory:
        for name, flags in {"recording into a file": ["-w", f"{directory}/some.pcapng"], "showing lines": []}.items():
            port = free_port()
            words = [sys.executable, "-m", "kvss_gevent", "tap", str(port), str(server.port), *flags]
            with (
                launched(words, port=port) as tap,
                server.connect(LIMIT_S) as direct,
                tap.connect(LIMIT_S) as tapped,
            ):
                p50_us(direct), p50_us(tapped)
                began_ns = cpu_ns(tap.pid)
                both = [(p50_us(direct), p50_us(tapped)) for _ in range(TAP_PAIRS)]
                spent_us = (cpu_ns(tap.pid) - began_ns) / 1000 / (TAP_PAIRS * TAP_SLICE)
            least_direct, least_tapped = (min(pair[place] for pair in both) for place in (0, 1))
            added = sorted(through - straight for straight, through in both)
            print(
                f"{name:22} {least_tapped - least_direct:+.0f} us ({least_direct:.0f} direct, {least_tapped:.0f} "
                f"through the tap), median of the pairs {statistics.median(added):+.0f}, a quarter below "
                f"{added[TAP_PAIRS // 4]:+.0f}; {spent_us:.1f} us of CPU a request",
                flush=True,
            )


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("events", "tap"))
    {"events": events, "tap": tap_added}[parser.parse_args().what]()


if __name__ == "__main__":
    main()
