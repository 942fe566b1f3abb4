"""`python -m bench.load_tester`: what the load tester itself costs, and how late its schedule is on an idle server.

Generator and server have a core each where there are two. The first figure compares the load tester, everything on,
with a bare loop of the same LoadConnection class, by turns in one process (load_locustfile.py). It is the ratio of the
CPU times per request in the cheapest quarter of the turns, which other processes disturbed least. The second is an open
loop of 1,000 requests a second.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from kvss_gevent.measure.launch import kvss, launched, two_processors

_ROOT = Path(__file__).resolve().parent.parent
_USERS = 10
_LEAST_REQUESTS = 128
"""A turn with fewer requests says nothing of the cost of one."""


def locust(port: int, seconds: int, locustfile: str, *options: str) -> str:
    """Run locust on the generator's core and return what it prints. Raises CalledProcessError, TimeoutExpired."""
    command = [sys.executable, "-m", "locust", "-f", locustfile, "--headless", "--only-summary"]
    command += ["-H", f"127.0.0.1:{port}", "-r", "100", "-t", str(seconds), *options]
    limit_s = seconds + 60
    return subprocess.run(
        command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=limit_s, cwd=_ROOT, text=True
    ).stdout


@dataclass(frozen=True, slots=True)
class Round:
    """Of the bare loop and of the load tester: requests per second, at the median of the turns, and what turns cost."""

    bare_per_s: float
    full_per_s: float
    bare_cpu_us: list[float]
    full_cpu_us: list[float]
    """CPU microseconds a request, of each turn."""


def by_turns(port: int, seconds: int) -> Round:
    """Return one round's figures. Raises RuntimeError where the machine left no turn with enough requests."""
    out = locust(port, seconds, "bench/load_locustfile.py", "-u", str(_USERS))
    match = re.search(r"^turns (.*)$", out, re.MULTILINE)
    assert match is not None
    turns = json.loads(match[1])
    rates, costs = [], []
    for name in ("bare", "full"):
        mine = [(requests, cpu_s, wall_s) for who, requests, cpu_s, wall_s in turns if who == name]
        mine = [turn for turn in mine if turn[0] >= _LEAST_REQUESTS]
        if not mine:
            raise RuntimeError("the machine is too busy: no turn had enough requests")
        rates.append(statistics.median(requests / wall_s for requests, _, wall_s in mine))
        costs.append([cpu_s / requests * 1e6 for requests, cpu_s, _ in mine])
    return Round(*rates, *costs)


def typical_us(costs: list[float]) -> float:
    """Return the lower quartile of turns' costs."""
    return sorted(costs)[len(costs) // 4]


def lateness(port: int, seconds: int) -> tuple[int, int]:
    """Return the generator's lag at 1,000 requests a second, p50 and p99 in microseconds."""
    with tempfile.TemporaryDirectory() as out:
        locust(port, seconds, "loadtest/kvss_locust.py", "-u", "1", "--kv-rate", "1000", "--kv-out", out)
        lag = json.loads((Path(out) / "results.json").read_text())["lag"]
    return lag["p50_us"], lag["p99_us"]


def main() -> int:
    """Print the figures; 1 where the ratio is under --least, the median lag is 300 us or more, or nothing is known."""
    parser = argparse.ArgumentParser(prog="python -m bench.load_tester", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each (default 5)")
    parser.add_argument("--seconds", type=int, default=5, help="length of a round (default 5)")
    parser.add_argument("--least", type=float, default=0.85, help="fail under this ratio of CPU (default 0.85)")
    args = parser.parse_args()
    if args.rounds < 1 or args.seconds < 1:
        parser.error("--rounds and --seconds are at least 1")
    server_on, locust_on = two_processors()
    with launched(kvss(), processors=server_on) as server:
        if locust_on:
            os.sched_setaffinity(0, locust_on)
        try:
            return _report(server.port, args)
        except RuntimeError as error:
            print(error, file=sys.stderr)
            return 1


def _report(port: int, args: argparse.Namespace) -> int:
    print(
        f"{_USERS} users in one process, closed loop, depth 1, mix 80:15:5; statistics and verification on against bare"
    )
    rounds = []
    for number in range(1, args.rounds + 1):
        one = by_turns(port, args.seconds)
        rounds.append(one)
        print(
            f"round {number}: bare {one.bare_per_s:,.0f}/s at {typical_us(one.bare_cpu_us):.1f} us of CPU a request, "
            f"load tester {one.full_per_s:,.0f}/s at {typical_us(one.full_cpu_us):.1f} us",
            flush=True,
        )
    bare_us = typical_us([cost for one in rounds for cost in one.bare_cpu_us])
    full_us = typical_us([cost for one in rounds for cost in one.full_cpu_us])
    ratio = bare_us / full_us
    print(f"ratio of CPU a request, {bare_us:.1f} to {full_us:.1f} us: {ratio:.2f}; at least {args.least} is asked")
    lags = [lateness(port, args.seconds) for _ in range(args.rounds)]
    p50_us, p99_us = (statistics.median(column) for column in zip(*lags, strict=True))
    spread = f"{min(p50 for p50, _ in lags)} to {max(p50 for p50, _ in lags)}"
    print(
        f"open loop at 1,000/s: late by {p50_us:.0f} us at the median ({spread}), p99 {p99_us:.0f} us; "
        "under 300 is asked"
    )
    return 0 if ratio >= args.least and p50_us < 300 else 1


if __name__ == "__main__":
    sys.exit(main())
