"""What an idle connection costs that hibernates: resident memory, and how long its first reply takes.

Run as `python -m bench.idle`; about a minute. Connections come in steps; after each step all hibernate, and the slope
of resident memory over the number of connections is fitted by least squares. The last line is of clients that do not
rest: what a connect and a request cost with --hibernate and without, two servers in turn.
"""

import argparse
import contextlib
import socket
import statistics
import time
from functools import partial

from bench.processes.generator_process import SERVER_PROCESSORS, cpu_us
from bench.processes.in_turn import in_turn, middle, room_for
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
    connections = room_for(args.connections)
    for hibernate_s in (HIBERNATE_S, 0.0):
        measure(connections, hibernate_s)
    active()


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
        slope = statistics.linear_regression(*zip(*points, strict=True)).slope
        shown = "never" if not hibernate_s else f"after {hibernate_s:g} s"
        print(
            f"hibernating {shown}: {len(socks)} connections, {slope / 1024:.2f} KiB resident each "
            f"({', '.join(f'{number}: {size / (1 << 20):.1f} MiB' for number, size in points)}); "
            f"first reply {statistics.median(first_us):.0f} us, the next {statistics.median(next_us):.0f} us (medians)",
            flush=True,
        )


def active() -> None:
    """Print the CPU of a connect with one request and an end, and of a request, beside a server without --hibernate."""
    with (
        launched(kvss("--hibernate", "0"), processors=SERVER_PROCESSORS) as without,
        launched(kvss("--hibernate", "60"), processors=SERVER_PROCESSORS) as hibernating,
    ):
        costs_us = in_turn(
            PAIRS, *(partial(cost, server) for cost in (connect_us, request_us) for server in (without, hibernating))
        )
    connects = middle([resting / plain for plain, resting, _, _ in costs_us], 3)
    requests = middle([resting / plain for _, _, plain, resting in costs_us], 3)
    print(f"CPU with --hibernate 60 over CPU without, {PAIRS} pairs: a connect {connects}, a request {requests}")


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


if __name__ == "__main__":
    main()
