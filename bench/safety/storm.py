"""How long an honest client waits while others connect and leave at once: `python -m bench.safety.storm`, 25 s.

Some processes connect to the server and close at once, again and again, as fast as they can. The honest client makes a
connection for each of its requests. Printed are the times of its requests before and during the storm, from the start
of the connection to the reply.

The claim is that the median in the storm is at most 20 ms. Exit code 0: it holds; 1: it does not; 3: other programs
used the machine meanwhile, so that the figures say nothing about it.
"""

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.safety.attack import waits_shown
from kvss_gevent import KVClient
from kvss_gevent.measure.launch import kvss, launched
from kvss_gevent.measure.process_usage import usage

STORMERS = 4
PAUSE_S = 0.02
"""Between two requests of the honest client."""
LIMIT_S = 60.0
"""For one request, so that a busy machine does not end the measurement."""
CLAIM_MS = 20.0
OTHERS_SHARE = 0.1
"""Of one processor: as much as other programs may use in a measurement that claims something."""
HOLDS, BROKEN, NO_CLAIM = 0, 1, 3


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2, help="worker processes of the server (2)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each of both measurements (10)")
    parser.add_argument("--storm", nargs=2, metavar=("PORT", "SECONDS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.storm:
        storm(int(args.storm[0]), float(args.storm[1]))
        return 0
    with tempfile.TemporaryDirectory(prefix="kvss-storm-") as name:
        flags = ("--store", f"disk:{Path(name) / 'data'}", "--sync", "none", "--workers", str(args.workers))
        with launched(kvss(*flags)) as server:
            began_s, others_s = time.monotonic(), cpu_of_others_s()
            print(f"alone: {waits_shown(waits_ms(server.port, args.seconds))}", flush=True)
            # They storm a little longer than the honest client asks, from a little earlier on.
            command = [sys.executable, "-m", "bench.safety.storm", "--storm", str(server.port), str(args.seconds + 2)]
            stormers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(STORMERS)]
            time.sleep(1)
            took_ms = waits_ms(server.port, args.seconds)
            others = (cpu_of_others_s() - others_s) / (time.monotonic() - began_s)
            print(f"in the storm: {waits_shown(took_ms)}")
            connected = sum(int(stormer.communicate()[0]) for stormer in stormers)
            print(f"{STORMERS} processes connected and left {connected:,} times in {args.seconds + 2:g} s")
    text, code = verdict(sorted(took_ms)[len(took_ms) // 2], others)
    print(text)
    return code


def waits_ms(port: int, seconds: float) -> list[float]:
    """Ask again and again, with a connection for each request; return how long each took."""
    took_ms: list[float] = []
    ends_s = time.monotonic() + seconds
    while not took_ms or time.monotonic() < ends_s:
        time.sleep(PAUSE_S)
        began_s = time.perf_counter()
        with KVClient("127.0.0.1", port, connect_timeout_s=LIMIT_S, timeout_s=LIMIT_S) as kv:
            kv.get(b"honest")
        took_ms.append((time.perf_counter() - began_s) * 1000)
    return took_ms


def storm(port: int, seconds: float) -> None:
    """Connect and leave until the time is over; print how often."""
    connected, ends_s = 0, time.monotonic() + seconds
    while time.monotonic() < ends_s:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            connected += 1
        except OSError:
            pass  # refused, or dropped by the kernel because the queue is full
    print(connected)


def cpu_of_others_s() -> float:
    """Return the processor time that all programs but this one and its children have used since the machine started."""
    with Path("/proc/stat").open() as file:
        user, nice, system = map(int, file.readline().split()[1:4])
    return (user + nice + system) / os.sysconf("SC_CLK_TCK") - usage(os.getpid()).cpu_ns / 1e9


def verdict(median_ms: float, others: float) -> tuple[str, int]:
    """Return what can be claimed, and the exit code. others: the share of a processor that other programs used."""
    if others > OTHERS_SHARE:
        return f"no claim: other programs used {others:.0%} of a processor meanwhile", NO_CLAIM
    if median_ms > CLAIM_MS:
        return f"the claim does not hold: the median is {median_ms:.1f} ms and not at most {CLAIM_MS:g}", BROKEN
    return f"the claim holds: the median is {median_ms:.1f} ms, at most {CLAIM_MS:g}", HOLDS


if __name__ == "__main__":
    sys.exit(main())
