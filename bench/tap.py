"""What `kvss tap` adds to a request: `python -m bench.tap` asks the same server directly and through a tap, in turn.

A slice is 100 requests, one at a time; its figure is its median. Printed are the difference of the least slices, which
other programs move little, and the median difference of the pairs; and the tap's CPU time for a request.
"""

import argparse
import socket
import statistics
import sys
import tempfile
import time

from kvss_gevent.measure.launch import free_port, kvss, launched
from kvss_gevent.measure.process_usage import cpu_ns

SLICE, PAIRS = 100, 300
GET = b"KV/1.0 GET user42\n"
LIMIT_S = 10.0


def p50_us(sock: socket.socket) -> float:
    """Return the median time of a slice."""
    times = []
    for _ in range(SLICE):
        began_ns = time.perf_counter_ns()
        sock.sendall(GET)
        sock.recv(100)
        times.append(time.perf_counter_ns() - began_ns)
    return statistics.median(times) / 1000


def main() -> None:
    """Print a line for each way in which a tap is used."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=PAIRS, help="pairs of slices")
    pairs = parser.parse_args().pairs
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
                both = [(p50_us(direct), p50_us(tapped)) for _ in range(pairs)]
                spent_us = (cpu_ns(tap.pid) - began_ns) / 1000 / (pairs * SLICE)
            least_direct, least_tapped = (min(pair[place] for pair in both) for place in (0, 1))
            added = sorted(through - straight for straight, through in both)
            print(
                f"{name:22} {least_tapped - least_direct:+.0f} us ({least_direct:.0f} direct, {least_tapped:.0f} through "
                f"the tap), median of {pairs} pairs {statistics.median(added):+.0f}, a quarter below "
                f"{added[pairs // 4]:+.0f}; {spent_us:.1f} us of CPU a request",
                flush=True,
            )


if __name__ == "__main__":
    main()
