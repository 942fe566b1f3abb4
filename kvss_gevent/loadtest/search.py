"""`kvss load search`: finds the highest open-loop rate at which a server meets requirements such as p99<5ms.

Each trial is one headless run of the load tester. The rate is doubled until the server fails. Then the gap is halved
until it is narrower than --precision. At the end the best rate must hold once more. A rate holds if every requirement
is met. Unless --slo contains other limits, no request may fail and 99 % of the offered rate must be answered.

One failed trial is not enough: a rate fails if two trials with trusted figures fail. A trial in which the generator was
late, stopped or out of CPU is repeated. One trial that holds is enough, because a late generator makes response times
longer and never shorter. If no trial of a rate can be trusted, the search ends with exit code 4: the machine is too
busy to tell.
"""

import argparse
import json
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvss_gevent.loadtest.command import locust_command, why_it_failed
from kvss_gevent.loadtest.report import thresholds
from kvss_gevent.loadtest.report.figures import FEW, PERCENTILES
from kvss_gevent.loadtest.report.thresholds import Requirement
from kvss_gevent.settings.fail import Exit, Fail
from kvss_gevent.settings.kinds import number, whole

EXIT_UNCLEAR = 4
TOO_BUSY = "the machine is too busy to tell"

_MOST_RATE = 1_000_000.0
_TRIALS = 5
"""Trials of one rate, at most."""
_LONGEST_S = 60
_ALWAYS = ("errors<=0", "rate>=0.99", "measured")


@dataclass(frozen=True, slots=True)
class SearchTrial:
    """One run at a rate. why_not: why the rate does not hold; doubt: why the figures cannot be trusted; else empty."""

    rate: float
    found: str
    why_not: str
    doubt: str

    @property
    def holds(self) -> bool:
        """Whether every requirement was met."""
        return not self.why_not


class UnclearError(Exception):
    """No trial of a rate can be trusted; the message is the last doubt."""


def read_slo(text: str) -> tuple[Requirement, ...]:
    """Read requirements, and add those of _ALWAYS that they do not contain. Raises ValueError."""
    asked = thresholds.parse(text)
    if not asked:
        raise ValueError("it is empty: write such as p99<5ms")
    names = {one.name for one in asked}
    return (*asked, *(one for one in thresholds.parse(",".join(_ALWAYS)) if one.name not in names))


def judge(rate: float, results: dict[str, Any], requirements: tuple[Requirement, ...]) -> SearchTrial:
    """Judge the results of one run."""
    judged = [thresholds.judge(one, results) for one in requirements]
    few = results["response"]["few"]
    doubts = [one["text"] for one in results["verdict"]["findings"] if not one["ok"] and "the generator" in one["text"]]
    doubts += [f"{one.name} rests on fewer than {FEW} requests" for one in requirements if f"{one.name}_us" in few]
    found = next((one.text for one in judged if "ms" in one.text), judged[0].text)
    return SearchTrial(rate, found, "; ".join(one.text for one in judged if not one.met), "; ".join(doubts))


def search(try_rate: Callable[[float], SearchTrial], start: float, precision: float) -> float:
    """Return the highest rate that holds, 0 if none does. Raises UnclearError."""
    held: list[float] = []
    breaks = 0.0
    while True:
        best = held[-1] if held else 0.0
        rate = min(best * 2, _MOST_RATE) or start
        if breaks:
            rate = round((best + breaks) / 2, 1 if breaks < 100 else 0)
            if breaks - best <= precision * breaks or breaks <= 1 or rate in (best, breaks):
                if not held or holds(try_rate, best):
                    return best
                breaks = held.pop()
                continue
        elif best == _MOST_RATE:
            return best
        if holds(try_rate, rate):
            held.append(rate)
        else:
            breaks = rate


def holds(try_rate: Callable[[float], SearchTrial], rate: float) -> bool:
    """Return whether a rate holds, after as many trials as needed. Raises UnclearError."""
    broken = 0
    doubt = ""
    for _ in range(_TRIALS):
        trial = try_rate(rate)
        if trial.holds:
            return True
        doubt = trial.doubt or doubt
        broken += not trial.doubt
        if broken == 2:
            return False
    if not broken:
        raise UnclearError(doubt)
    return False


def seconds_for(rate: float, requirements: tuple[Requirement, ...], least_s: float) -> float:
    """Return how long to measure, so that at least 10 requests lie beyond each required percentile."""
    percents = [PERCENTILES.get(f"{one.name}_us", 0.0) for one in requirements]
    needed = max(FEW / (1 - percent / 100) for percent in percents)
    return min(max(least_s, 1.05 * needed / rate), _LONGEST_S)


def run_once(rate: float, args: argparse.Namespace, requirements: tuple[Requirement, ...]) -> SearchTrial:
    """Run the load tester at a rate. Raises Fail with its error if it leaves no results."""
    seconds = seconds_for(rate, requirements, args.seconds)
    with tempfile.TemporaryDirectory() as out:
        command = locust_command(["--headless", "--only-summary", "-H", args.host, "-u", str(args.users)])
        command += ["-r", str(max(args.users, 100)), "-t", f"{seconds:.0f}", "--kv-rate", str(rate)]
        # A server that does not finish the backlog within a second was overloaded.
        command += ["--kv-drain", "1s", "--kv-out", out, *args.options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 90, check=False)
        path = Path(out) / "results.json"
        if not path.exists():
            fail = why_it_failed(done)
            fail.code = Exit.USAGE if fail.code == Exit.USAGE else Exit.UNREACHABLE
            raise fail
        return judge(rate, json.loads(path.read_text()), requirements)


HELP_SAYS = "`kvss load search --help` says what it takes."
EPILOG = """\
examples:
  kvss load search --slo 'p99<5ms' --host 127.0.0.1:5050
  kvss load search --users 50 -- --kv-mix 50:50:0 --processes 2

Words after -- go to Locust.

exit codes:
  0    found
  1    no rate meets the requirement
  2    wrong usage
  3    the server could not be tested, or Locust is not installed
  4    the machine is too busy
  130  Ctrl-C"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `kvss load search`."""
    parser.epilog = EPILOG
    parser.add_argument("--slo", default="p99<5ms", help="requirement, as in --kv-require (default p99<5ms)")
    parser.add_argument(
        "--host", default="127.0.0.1:5050", metavar="ADDRESS", help="the server (default 127.0.0.1:5050)"
    )
    parser.add_argument("--users", type=whole(1, 1_000_000), default=10, metavar="N", help="connections (default 10)")
    parser.add_argument(
        "--seconds",
        type=whole(1, _LONGEST_S),
        default=5,
        metavar="S",
        help="shortest measured window of each run (default 5)",
    )
    parser.add_argument(
        "--start", type=number(1, _MOST_RATE), default=1000, metavar="RATE", help="first rate per second (default 1000)"
    )
    parser.add_argument(
        "--precision",
        type=number(0.0001, 0.9999),
        default=0.02,
        metavar="SHARE",
        help="end when the rate is known to this share (default 0.02)",
    )
    parser.add_argument("options", nargs="*", metavar="LOCUST_OPTION", help="options for Locust")


def run(args: argparse.Namespace) -> int:
    """Search and print; 0 found, 1 nothing holds. Raises Fail: 3 no server, 4 too busy to tell."""
    try:
        requirements = read_slo(args.slo)
    except ValueError as error:
        raise Fail(f"--slo: {error}", HELP_SAYS) from None
    held: list[float] = []

    def try_rate(rate: float) -> SearchTrial:
        trial = run_once(rate, args, requirements)
        _show(trial)
        if trial.holds:
            held.append(rate)
        return trial

    try:
        best = search(try_rate, args.start, args.precision)
    except UnclearError as unclear:
        _show_unfinished(held, args)
        raise Fail(
            f"{TOO_BUSY}: {unclear}", "End other programs, or search on another machine.", EXIT_UNCLEAR
        ) from None
    except subprocess.TimeoutExpired as late:
        _show_unfinished(held, args)
        raise Fail(f"a run did not end in {late.timeout:.0f} s", "Check the server.", Exit.UNREACHABLE) from None
    except (Fail, KeyboardInterrupt):
        _show_unfinished(held, args)
        raise
    if not best:
        print(f"no rate from {args.start:,.0f}/s down holds {args.slo}")
        return Exit.FAILED
    print(f"highest rate that holds {args.slo}: {best:,.0f} requests/s")
    return Exit.OK


def _show_unfinished(held: Sequence[float], args: argparse.Namespace) -> None:
    if held:
        print(f"the search did not end; the highest rate that held {args.slo}: {max(held):,.0f} requests/s", flush=True)


def _show(trial: SearchTrial) -> None:
    print(
        f"{trial.rate:>9,.0f}/s  {'holds' if trial.holds else 'does not hold'}: {trial.why_not or trial.found}",
        flush=True,
    )
    if trial.doubt:
        print(f"{'':>13}in doubt: {trial.doubt}", flush=True)
