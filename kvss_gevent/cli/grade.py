"""`kvss grade`: grades a class, a folder with one folder for each submission. The folder grading/ does the grading."""

import sys
from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path

from kvss_gevent.cli.conform import add_language
from kvss_gevent.conformance.case import PROFILES
from kvss_gevent.conformance.translation import speaker
from kvss_gevent.grading import output_folder as output
from kvss_gevent.grading.folder import (
    DEFAULT_BUDGET_S,
    DEFAULT_BUILD_BUDGET_S,
    read_settings,
    submissions,
)
from kvss_gevent.grading.grader import Graded, grade_class
from kvss_gevent.grading.outcome import Outcome
from kvss_gevent.settings.fail import Exit, Fail, escaped
from kvss_gevent.settings.kinds import seconds, whole

INTERRUPTED = 130
MAX_JOBS = 64

_EPILOG = """\
examples:
  kvss grade class --out marks
  kvss grade class --out marks --profile sheet --jobs 2

Each folder in DIR is a submission. Its run.sh gets the port as $1. Its build.sh, if there is one, runs before. A
grade.toml can hold the commands instead: one in the submission, or one in DIR for all. The one in DIR can also set
profile, only, exclude, weights, budget and build_budget.

--out will hold: index.html (the class), marks.csv, feedback/NAME.html, NAME/results.json (Gradescope), NAME/junit.xml.

exit codes: 0 all graded, with any marks, 2 wrong usage, 3 grading is not possible,
            130 interrupted (the results so far are printed and written)

This is no sandbox: the submissions may do everything that you may do."""


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of `kvss grade`."""
    parser.epilog = _EPILOG
    parser.add_argument(
        "directory", type=Path, metavar="DIR", help="the class: a folder with one folder for each submission"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="OUT", help="the folder for the results")
    parser.add_argument(
        "--profile",
        choices=tuple(PROFILES),
        help="the document that decides which cases give points (default: project)",
    )
    parser.add_argument(
        "--budget",
        type=seconds(0.1, 3600),
        metavar="S",
        help=f"seconds for a submission (default: {DEFAULT_BUDGET_S:g})",
    )
    parser.add_argument(
        "--build-budget",
        type=seconds(0.1, 3600),
        metavar="S",
        help=f"seconds for its build.sh (default: {DEFAULT_BUILD_BUDGET_S:g})",
    )
    parser.add_argument(
        "--jobs", type=whole(1, MAX_JOBS), default=1, metavar="N", help="submissions at a time (default: %(default)s)"
    )
    add_language(parser)


def run(args: Namespace) -> int:
    """Grade the class and write the results; returns the exit code."""
    sources, files = submissions(args.directory, args.out)
    if files:
        print(f"kvss grade: not graded, because they are no folders: {escaped(', '.join(files))}", file=sys.stderr)
    given = {name: value for name in ("profile", "budget", "build_budget") if (value := getattr(args, name))}
    settings = replace(read_settings(args.directory), **given)
    output.prepare(args.out, [source.name for source in sources])
    done = 0

    def show(outcome: Outcome) -> None:
        nonlocal done
        done += 1
        print(f"[{done}/{len(sources)}] {_line(outcome)}", file=sys.stderr, flush=True)

    graded = grade_class(sources, settings, args.jobs, show)
    output.write(args.out, escaped(args.directory.resolve().name), graded, speaker(args.lang))
    _print(graded, args.out)
    if not graded.complete:
        raise Fail("interrupted", f"{len(graded.outcomes)} of {len(sources)} submissions were begun", INTERRUPTED)
    return Exit.OK


def _line(outcome: Outcome) -> str:
    return f"{escaped(outcome.name)}: {escaped(outcome.said)}, {outcome.percent:.1f} %, {outcome.duration_s:.1f} s"


def _print(graded: Graded, out: Path) -> None:
    width = max([4, *(min(len(escaped(outcome.name)), 30) for outcome in graded.outcomes)])
    print(f"{'name':<{width}}  {'points':>10}  {'mark':>7}  verdict")
    for outcome in graded.outcomes:
        points = f"{outcome.points} of {outcome.possible}"
        print(f"{escaped(outcome.name):<{width}}  {points:>10}  {outcome.percent:>5.1f} %  {escaped(outcome.said)}")
    print(f"\nresults: {escaped(str(out / 'index.html'))}")
