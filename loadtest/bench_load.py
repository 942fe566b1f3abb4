"""`python -m loadtest.bench_load`: what the load tester itself costs, measured side by side with a bare loop.

The bare loop is the same Connection class in as many greenlets, sending the same mix of request lines, built
beforehand, without statistics, verification or Locust. Generator and server each have a core of their own. Rounds
alternate, so that a slow moment of the machine hits both; the figure is the median of the rounds' ratios.
"""

import argparse
import gc
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

USERS, KEYS = 10, 10_000
_ROOT = Path(__file__).resolve().parent.parent


def bare(port: int, seconds: float) -> None:
    """Run the bare loop in this process and print its requests per second."""
    from gevent import monkey

    monkey.patch_all()
    from random import Random

    import gevent

    from loadtest import keys
    from loadtest.connection import Connection
    from loadtest.timer import clock
    from loadtest.workload import Workload, batches, parse_mix

    def lines_of(number: int) -> list[bytes]:
        steps = batches(Workload(parse_mix("80:15:5"), keys.parse("uniform")), KEYS, Random(f"1/0/{number}"))(64 * 50)
        forms = (b"KV/1.0 GET user%d\n", b"KV/1.0 PUT user%d " + b"x" * 100 + b"\n", b"KV/1.0 DEL user%d\n")
        return [forms[op] % key for op, key in steps]

    def user(lines: list[bytes]) -> int:
        connection = Connection(("127.0.0.1", port))
        exchange, count = connection.exchange, 0
        while clock() < ends:
            connection.hold()
            first = count % len(lines)
            for line in lines[first : first + 64]:
                exchange(line)
            connection.release()
            count += 64
            gevent.sleep(0)  # As every Locust user does between tasks.
        connection.close()
        return count

    prepared = [lines_of(number) for number in range(USERS)]
    gc.collect()
    gc.freeze()
    begun, ends = time.process_time(), clock() + seconds
    users = [gevent.spawn(user, lines) for lines in prepared]
    count = sum(one.get() for one in users)
    print(count / seconds, (time.process_time() - begun) / count * 1e6)


def bare_rate(port: int, seconds: float) -> tuple[float, float]:
    """Return the bare loop's requests per second and microseconds of CPU a request, in a process of its own."""
    command = [sys.executable, "-m", "loadtest.bench_load", "--bare", str(port), "--seconds", str(seconds)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60, cwd=_ROOT)
    per_s, cpu_us = done.stdout.split()
    return float(per_s), float(cpu_us)


def locust_rate(port: int, seconds: float, *options: str) -> dict[str, float]:
    """Return the figures of one run of the load tester on core 0."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "locust", "-f", "loadtest/kvss_locust.py", "--headless", "--only-summary"]
        command += ["-H", f"127.0.0.1:{port}", "-r", "100", "-t", str(int(seconds)), "--kv-out", out, *options]
        subprocess.run(command, check=True, capture_output=True, timeout=120, cwd=_ROOT)
        results = json.loads((Path(out) / "results.json").read_text())
    return {
        "per_s": results["requests"]["achieved_per_s"],
        "lag_p50_us": results["lag"]["p50_us"],
        "lag_p99_us": results["lag"]["p99_us"],
        "cpu_share": max(results["generator"]["cpu_shares"].values()),
    }


def main() -> int:
    """Print the figures; returns 1 where the ratio is under --least."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.bench_load", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="pairs of runs (default 5)")
    parser.add_argument("--seconds", type=float, default=4, help="length of a run (default 4)")
    parser.add_argument("--least", type=float, default=0.7, help="fail under this ratio (default 0.7)")
    parser.add_argument("--bare", type=int, metavar="PORT", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.bare:
        bare(args.bare, args.seconds)
        return 0
    cores = sorted(os.sched_getaffinity(0))
    server = subprocess.Popen(
        [sys.executable, "-m", "kvss_gevent", "serve", "127.0.0.1", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=_ROOT,
    )
    try:
        assert server.stdout is not None
        match = re.search(r":(\d+)\s*$", server.stdout.readline())
        if match is None:
            print("bench: the server did not start", file=sys.stderr)
            return 1
        os.sched_setaffinity(server.pid, cores[-1:])
        os.sched_setaffinity(0, cores[:1])
        return _compare(int(match[1]), args.rounds, args.seconds, args.least)
    finally:
        server.terminate()
        server.wait(10)


def _compare(port: int, rounds: int, seconds: float, least: float) -> int:
    ratios = []
    print(f"{USERS} users, depth 1, mix 80:15:5, closed loop, statistics and verification on; one core each")
    for number in range(1, rounds + 1):
        plain, plain_us = bare_rate(port, seconds)
        full = locust_rate(port, seconds, "-u", str(USERS))
        ratios.append(full["per_s"] / plain)
        print(
            f"round {number}: bare {plain:,.0f}/s at {plain_us:.1f} us of CPU a request, locust {full['per_s']:,.0f}/s "
            f"at {full['cpu_share'] / full['per_s'] * 1e6:.1f} us, ratio {ratios[-1]:.2f}",
            flush=True,
        )
        time.sleep(0.2)
    middle = statistics.median(ratios)
    print(f"ratio: median {middle:.2f}, from {min(ratios):.2f} to {max(ratios):.2f}; at least {least} is asked")
    idle = [locust_rate(port, seconds, "-u", "1", "--kv-rate", "1000") for _ in range(max(rounds // 2, 1))]
    lags = [run["lag_p50_us"] for run in idle]
    print(
        f"open loop at 1,000/s: late by {statistics.median(lags):.0f} us at the median "
        f"({min(lags)} to {max(lags)}); under 300 is asked"
    )
    return 0 if middle >= least and statistics.median(lags) < 300 else 1


if __name__ == "__main__":
    sys.exit(main())
