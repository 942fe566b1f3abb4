"""`kvss load search`: the highest open-loop rate at which a server keeps a promise such as p99:5ms.

Each rate is one headless run of the load tester. The rate doubles until the promise breaks, then the gap is halved
until it is narrower than --precision. A rate holds when the percentile of the response time, from the intended start,
is within the promise, nothing failed, was dropped or left unsent, and 99 % of what was offered was answered.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvss_gevent.loadtest.command import locust_command
from kvss_gevent.loadtest.options import seconds
from kvss_gevent.loadtest.report.results import PERCENTILES
from kvss_gevent.settings.fail import Exit, Fail

_MOST_RATE = 1_000_000.0


@dataclass(frozen=True, slots=True)
class Promise:
    """A percentile of the response time and its limit in microseconds; max is p100."""

    figure: str
    limit_us: float


@dataclass(frozen=True, slots=True)
class Trial:
    """One rate that was tried, what came out, and why it does not hold, if so."""

    rate: float
    achieved_per_s: float
    value_us: float
    why_not: str
    doubt: str = ""

    @property
    def holds(self) -> bool:
        """Whether the promise was kept."""
        return not self.why_not


def parse_promise(text: str) -> Promise:
    """Read `p99:5ms` or `max:50ms`. Raises ValueError saying what is wrong."""
    name, _, limit = text.partition(":")
    figure = f"{name}_us"
    if figure not in (*PERCENTILES, "max_us"):
        names = ", ".join(key.removesuffix("_us") for key in (*PERCENTILES, "max_us"))
        raise ValueError(f"{text!r}: write a percentile and a limit such as p99:5ms; the percentiles are {names}")
    return Promise(figure, seconds(limit) * 1e6)


def judge(rate: float, results: dict[str, Any], promise: Promise) -> Trial:
    """Return what one run's results say about a promise."""
    requests = results["requests"]
    value_us = results["response"][promise.figure]
    achieved, offered = requests["achieved_per_s"], requests["offered_per_s"]
    reasons = {
        f"{promise.figure.removesuffix('_us')} is {value_us / 1000:.3f} ms": value_us > promise.limit_us,
        f"{requests['errors']} failed": requests["errors"],
        f"{requests['dropped'] + requests['unsent']} were never sent": requests["dropped"] + requests["unsent"],
        f"only {achieved:,.0f}/s were answered": achieved < 0.99 * offered,
        "nothing was measured": not requests["count"],
    }
    doubts = [one["text"] for one in results["verdict"]["findings"] if not one["ok"] and "the generator" in one["text"]]
    return Trial(
        rate, achieved, value_us, "; ".join(reason for reason, bad in reasons.items() if bad), "; ".join(doubts)
    )


def search(try_rate: Callable[[float], Trial], start: float, precision: float) -> Iterator[Trial]:
    """Yield trials, doubling from `start` and then halving the gap; the best that held is for the caller to keep."""
    holds, breaks = 0.0, 0.0
    rate = start
    while True:
        trial = try_rate(rate)
        yield trial
        if trial.holds:
            holds = rate
        else:
            breaks = rate
        if not breaks:
            if holds == _MOST_RATE:
                return
            rate = min(holds * 2, _MOST_RATE)
        elif breaks - holds > precision * breaks and breaks > 1:
            rate = round((holds + breaks) / 2) or 1
            if rate in (holds, breaks):
                return
        else:
            return


def run_once(rate: float, args: argparse.Namespace, promise: Promise) -> Trial:
    """Run the load tester at a rate. Raises Fail with its complaint and exit code where it leaves no results."""
    with tempfile.TemporaryDirectory() as out:
        command = locust_command(["--headless", "--only-summary", "-H", args.host, "-u", str(args.users)])
        command += ["-r", str(max(args.users, 100))]
        # What a second does not work off was too much.
        command += ["-t", str(args.seconds), "--kv-rate", str(rate), "--kv-drain", "1s", "--kv-out", out, *args.options]
        limit_s = args.seconds + 90
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
        path = Path(out) / "results.json"
        if not path.exists():
            lines = [line for line in done.stderr.splitlines() if line and not re.match(r"\[.*INFO", line)]
            complaint = "\n".join(lines[-2:]) or f"locust ended with {done.returncode}"
            code = Exit.USAGE if done.returncode == Exit.USAGE else Exit.UNREACHABLE
            raise Fail(complaint.removeprefix("__main__.py: error: "), "", code)
        return judge(rate, json.loads(path.read_text()), promise)


def main(argv: list[str] | None = None) -> int:
    """Search and print; 0 found, 1 nothing holds, 2 usage, 3 no server, 130 Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="kvss load search",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="exit codes: 0 found, 1 no rate holds, 2 usage, 3 the server could not be loaded, 130 Ctrl-C\n"
        "options after -- are given to locust, such as: -- --kv-mix 50:50:0 --processes 2",
    )
    parser.add_argument(
        "--slo", default="p99:5ms", help="the promise: p50 to p99.99 or max, and a limit (default p99:5ms)"
    )
    parser.add_argument("--host", default="127.0.0.1:5050", help="the server (default 127.0.0.1:5050)")
    parser.add_argument("--users", type=int, default=10, help="connections (default 10)")
    parser.add_argument("--seconds", type=int, default=5, help="measured window of each run (default 5)")
    parser.add_argument("--start", type=float, default=1000, help="first rate per second (default 1000)")
    parser.add_argument("--precision", type=float, default=0.05, help="end when the gap is this share (default 0.05)")
    parser.add_argument("options", nargs="*", metavar="LOCUST_OPTION")
    args = parser.parse_args(argv)
    try:
        promise = parse_promise(args.slo)
    except ValueError as error:
        parser.error(f"--slo: {error}")
    if args.users < 1 or args.seconds < 1 or not 0 < args.precision < 1 or not 1 <= args.start <= _MOST_RATE:
        parser.error("--users and --seconds are at least 1, --start is 1 to 1,000,000, --precision between 0 and 1")
    best: Trial | None = None
    try:
        for trial in search(lambda rate: run_once(rate, args, promise), args.start, args.precision):
            verdict = "holds" if trial.holds else f"does not hold: {trial.why_not}"
            name = promise.figure.removesuffix("_us")
            print(f"{trial.rate:>9,.0f}/s  {name} {trial.value_us / 1000:>10.3f} ms  {verdict}", flush=True)
            if trial.doubt:
                print(f"{'':>13}in doubt: {trial.doubt}", flush=True)
            if trial.holds and (best is None or trial.rate > best.rate):
                best = trial
    except Fail as fail:
        print(fail.cause, file=sys.stderr)
        code = int(fail.code)
    except subprocess.TimeoutExpired as error:
        print(error, file=sys.stderr)
        code = int(Exit.UNREACHABLE)
    except KeyboardInterrupt:
        code = 130  # what shells make of SIGINT
    else:
        return _answer(best, args)
    if best is not None:
        print(f"the search did not end; the highest rate that held {args.slo}: {best.rate:,.0f} requests/s")
    return code


def _answer(best: Trial | None, args: argparse.Namespace) -> int:
    if best is None:
        print(f"no rate from {args.start:,.0f}/s down holds {args.slo}")
        return Exit.FAILED
    print(f"highest rate that holds {args.slo}: {best.rate:,.0f} requests/s")
    return Exit.OK
