"""What an idle connection costs that hibernates: resident memory, and how long its first reply takes.

Run as `python -m bench.idle`; about a minute. Connections come in steps; after each step all hibernate, and the slope
of resident memory over the number of connections is fitted by least squares. The last line is of clients that do not
rest: what a connect and a request cost with --hibernate and without, two servers in turn.
"""

import argparse
import contextlib
import resource
import socket
import statistics
import time

from bench.processes.generator_process import SERVER_PROCESSORS, cpu_us
from kvss_gevent.measure.launch import Launched, kvss, launched
from kvss_gevent.measure.process_usage import cpu_ns, resident_bytes

STEPS = 5
ASKED = 300
HIBERNATE_S = 1.0
PAIRS = 15
CONNECTS = 300


def main() -> None:
    """Print the figures with and without hibernating."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=15_000)
    args = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = args.connections + 200
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit if hard < 0 else min(limit, hard), hard))
    for hibernate_s in (HIBERNATE_S, 0.0):
        measure(args.connections, hibernate_s)
    active(PAIRS)


def measure(connections: int, hibernate_s: float) -> None:
    """Open connections in steps; print the slope of resident memory, and the times of first replies."""
    flags = ("--max-connections", str(connections + 10), "--hibernate", str(hibernate_s))
    with launched(kvss(*flags), processors=SERVER_PROCESSORS) as server, contextlib.ExitStack() as stack:
        socks: list[socket.socket] = []
        points = [(0, resident_bytes(server.pid))]
        for _ in range(STEPS):
            new = [stack.enter_context(server.connect(20)) for _ in range(connections // STEPS)]
            for sock in new:
                asked_us(sock)
            socks += new
            time.sleep(4 * hibernate_s + 1)
            points.append((len(socks), resident_bytes(server.pid)))
        first_us = [asked_us(sock) for sock in socks[:: len(socks) // ASKED]]
        next_us = [asked_us(sock) for sock in socks[:: len(socks) // ASKED]]
        shown = "never" if not hibernate_s else f"after {hibernate_s:g} s"
        print(
            f"hibernating {shown}: {len(socks)} connections, {slope(points) / 1024:.2f} KiB resident each "
            f"({', '.join(f'{number}: {size / (1 << 20):.1f} MiB' for number, size in points)}); "
            f"first reply {statistics.median(first_us):.0f} us, the next {statistics.median(next_us):.0f} us (medians)",
            flush=True,
        )


def active(pairs: int) -> None:
    """Print the CPU of a connect with one request and an end, and of a request, beside a server without --hibernate."""
    costs: dict[str, list[float]] = {"a connect": [], "a request": []}
    with (
        launched(kvss("--hibernate", "0"), processors=SERVER_PROCESSORS) as without,
        launched(kvss("--hibernate", "60"), processors=SERVER_PROCESSORS) as hibernating,
    ):
        for pair in range(pairs + 1):
            for name, measured in (("a connect", connect_us), ("a request", request_us)):
                plain_us, resting_us = measured(without), measured(hibernating)
                if pair:  # the first warms up
                    costs[name].append(resting_us / plain_us)
    shown = (
        f"{name} {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
        for name, ratios in costs.items()
    )
    print(f"CPU with --hibernate 60 over CPU without, {pairs} pairs: {', '.join(shown)}", flush=True)


def connect_us(server: Launched) -> float:
    """Return the server's CPU of a client that comes, asks once and goes."""
    before_ns = cpu_ns(server.pid)
    for _ in range(CONNECTS):
        with server.connect(20) as sock:
            asked_us(sock)
    return (cpu_ns(server.pid) - before_ns) / CONNECTS / 1000


def request_us(server: Launched) -> float:
    """Return the server's CPU of a request."""
    return cpu_us(server.pid, "kv", server.port, 1, 0.5)


def asked_us(sock: socket.socket) -> float:
    """Ask once; return how long the reply took."""
    began_s = time.perf_counter()
    sock.sendall(b"KV/1.0 GET none\n")
    assert sock.recv(100) == b"404 NOT_FOUND\n"
    return (time.perf_counter() - began_s) * 1e6


def slope(points: list[tuple[int, int]]) -> float:
    """Return the slope of the line that fits points best."""
    mean_x, mean_y = (statistics.fmean(column) for column in zip(*points, strict=True))
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)


if __name__ == "__main__":
    main()
