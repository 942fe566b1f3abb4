"""Grades the same servers many times, six at once, and says which marks they got: a grader must not play dice.

`python tests/same_marks.py --times 100 --at-once 6`. The servers are a right one and some with a planted bug each. It
prints a line for each server, and exits with 1 where one of them got two different marks.
"""

import sys
import time
from argparse import ArgumentParser
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from kvss_gevent.conformance.process.shell_command import ShellCommand
from kvss_gevent.conformance.process.submission import Submission
from kvss_gevent.conformance.running.runner import grade_submission

TESTS = Path(__file__).parent
RIGHT = "right"
SERVERS = (RIGHT, "rest-lost", "check-then-put", "keys-cut-at-64", "crlf-kept", "torn-value")
SERVE = "import time; from reference_server import *\nwith running(talking(), port={port}): time.sleep(600)"

Marks = tuple[int, int, tuple[str, ...], tuple[str, ...]]
"""Points, those possible, the failed cases, and the causes that were named."""


def grade(name: str) -> tuple[str, Marks, int]:
    """Start the server of a name and grade it once; returns the name, the marks and how many cases were run twice."""
    server = f"{sys.executable} {TESTS}/planted/server.py {{port}} {name}"
    line = f"{sys.executable} -c '{SERVE}'" if name == RIGHT else server
    command = ShellCommand(line, TESTS, variables={"PYTHONPATH": f"{TESTS}:{TESTS.parent}"})
    card = grade_submission(Submission(command))
    failed = tuple(verdict.case.id for verdict in card.failures)
    marks = card.points, card.possible, failed, tuple(sorted(finding.name for finding in card.causes))
    return name, marks, sum(verdict.flaky for verdict in card.verdicts)


def main() -> int:
    """Grade, print and return the exit code."""
    parser = ArgumentParser(description="grade the same servers many times and compare the marks")
    parser.add_argument("--times", type=int, default=100, metavar="N", help="for each server (default: 100)")
    parser.add_argument("--at-once", type=int, default=6, metavar="N", help="graders at work (default: 6)")
    parser.add_argument("--only", nargs="+", default=SERVERS, choices=SERVERS, metavar="NAME", help="these servers")
    args = parser.parse_args()
    started = time.monotonic()
    given = {name: Counter[Marks]() for name in args.only}
    again: Counter[str] = Counter()
    with ProcessPoolExecutor(args.at_once) as pool:
        futures = [pool.submit(grade, name) for _ in range(args.times) for name in args.only]
        for done, future in enumerate(as_completed(futures), 1):
            name, marks, twice = future.result()
            given[name][marks] += 1
            again[name] += twice
            print(f"{done} of {len(futures)}: {name} {marks[0]} of {marks[1]}", file=sys.stderr, flush=True)
    for name, counts in given.items():
        print(f"{name}: {counts.total()} times graded, {len(counts)} different marks, {again[name]} cases run twice")
        if len(counts) > 1:
            for (points, possible, failed, causes), count in counts.most_common():
                print(
                    f"  {count} times {points} of {possible}; failed: {', '.join(failed)}; causes: {', '.join(causes)}"
                )
    print(f"{time.monotonic() - started:.0f} s")
    return int(any(len(counts) > 1 for counts in given.values()))


if __name__ == "__main__":
    sys.exit(main())
