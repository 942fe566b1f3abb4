"""`kvss load repeat N ...`: makes the same run several times, and prints intervals over the results."""

import argparse
import json
import statistics
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from kvss_gevent.loadtest.command import locust_command, why_it_failed
from kvss_gevent.loadtest.report.files import HDR_LOG, RESULTS
from kvss_gevent.loadtest.report.text import cell
from kvss_gevent.settings.fail import Exit, Fail
from kvss_gevent.settings.kinds import whole
from kvss_gevent.settings.named_files import refuse_files_of_others

_SHOWN = (
    ("answered/s", "requests", "answered_per_s"),
    ("p50, us", "response", "p50_us"),
    ("p99, us", "response", "p99_us"),
    ("p99.9, us", "response", "p99.9_us"),
    ("max, us", "response", "max_us"),
)


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return an interval for the true median of all possible runs, and the probability that it contains it.

    The interval goes from the least to the greatest value. It misses the median only if all n values lie on one side
    of it, which has the probability 2 * 0.5**n.
    """
    return min(values), max(values), 1 - 2 * 0.5 ** len(values)


def text(runs: Sequence[dict[str, Any]]) -> str:
    """Return medians and intervals over some runs."""
    _, _, probability = interval(range(len(runs)))
    lines = [f"{'':<12}{'median':>12}{'least':>12}{'greatest':>12}   of {len(runs)} runs"]
    for name, part, key in _SHOWN:
        values = [run[part][key] for run in runs if run[part].get("count", True)]
        if not values:
            lines.append(f"{name:<12}" + f"{'-':>12}" * 3)
            continue
        least, greatest, _ = interval(values)
        lines.append(f"{name:<12}{statistics.median(values):>12,.0f}{least:>12,.0f}{greatest:>12,.0f}")
    trusted = sum(run["verdict"]["trusted"] for run in runs)
    lines.append(f"the true median lies between least and greatest with a probability of {probability:.0%}")
    lines.append(f"{trusted} of {len(runs)} runs can be trusted")
    return "\n".join(lines) + "\n"


EPILOG = """\
examples:
  kvss load repeat 5 out/a -H 127.0.0.1:5050 -u 10 -r 10 -t 10s --kv-rate 1000

exit codes: the highest of the runs, 2 wrong usage, 3 Locust is not installed"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `kvss load repeat`."""
    parser.epilog = EPILOG
    parser.add_argument(
        "times", type=whole(2, 100), metavar="N", help="number of runs, at least 2: one run has no interval"
    )
    parser.add_argument(
        "out", type=Path, metavar="OUT", help="directory for the runs; each gets its own directory in it"
    )
    parser.add_argument("options", nargs=argparse.REMAINDER, metavar="OPTION", help="options of Locust, and --kv-*")


def run(args: argparse.Namespace) -> int:
    """Run Locust N times, headless, into OUT/1 to OUT/N; the exit code is the greatest of the runs'. Raises Fail."""
    runs = []
    code = 0
    for number in range(1, args.times + 1):
        out = args.out / str(number)
        options = [*args.options, "--headless", "--only-summary", "--kv-out", str(out)]
        refuse_files_of_others(out, (RESULTS,), HDR_LOG)
        with suppress(OSError):  # Else the results of an earlier run would count as those of this one.
            (out / RESULTS).unlink()
        done = subprocess.run(locust_command(options), capture_output=True, text=True, check=False)
        if not (out / RESULTS).exists():
            fail = why_it_failed(done)
            raise Fail(f"run {number}: {fail.cause}", fail.remedy, fail.code)
        runs.append(json.loads((out / RESULTS).read_text(encoding="utf-8")))
        code = max(code, done.returncode)
        figures = runs[-1]
        print(
            f"run {number}: {figures['requests']['answered_per_s']:,.1f}/s answered, "
            f"p99 {cell(figures['response'], 'p99_us')} us, {figures['requests']['failed']:,} failed",
            flush=True,
        )
    print(text(runs), end="")
    return code or Exit.OK
