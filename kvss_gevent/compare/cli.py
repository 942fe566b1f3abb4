"""`python -m kvss_gevent.compare`: measure, report, and compare reports. Exit codes are in the help."""

import argparse
import os
import random
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kvss_gevent.compare.rows import Journal, UnreadableError
from kvss_gevent.settings.fail import Exit, Fail

REPORTS = Path("reports")
EPILOG = """\
exit codes: 0 done, 1 `again` found a contradiction, 2 usage, 3 the report cannot be written, 130 interrupted (what was
measured is kept, and --resume goes on).
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    args = _parser().parse_args(argv)
    try:
        if missing := [name for name in ("matplotlib", "locust", "psutil") if not find_spec(name)]:
            raise Fail(f"the laboratory needs {', '.join(missing)}", "pip install 'kvss-gevent[lab,load]'")
        code: int = args.run(args)
        return code
    except Fail as fail:
        print(f"kvss compare: {fail.cause}\n  {fail.remedy}", file=sys.stderr)
        return fail.code
    except UnreadableError as error:
        print(f"kvss compare: {error.cause}\n  {error.remedy}", file=sys.stderr)
        return Exit.USAGE
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m kvss_gevent.compare",
        description="The same protocol under every concurrency model, compared in one report.",
        epilog=EPILOG,
        formatter_class=raw,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    run = commands.add_parser("run", help="measure and make a report", epilog=EPILOG, formatter_class=raw)
    _add_choices(run)
    run.add_argument("--out", type=Path, help="directory of the report (reports/ and the time)")
    run.add_argument("--resume", type=Path, metavar="DIR", help="go on with an interrupted run")
    run.set_defaults(run=run_command)
    again = commands.add_parser(
        "again",
        help="measure twice and tell whether both say the same",
        description="Measures twice and compares the order of models in CPU per request, where their intervals are "
        "apart, and which known truths came out.",
        epilog=EPILOG,
        formatter_class=raw,
    )
    _add_choices(again)
    again.set_defaults(run=again_command)
    report = commands.add_parser("report", help="make the report of a run anew from its rows")
    report.add_argument("directory", type=Path, metavar="DIR")
    report.set_defaults(run=report_command)
    diff = commands.add_parser("diff", help="tell which differences between two reports are real")
    diff.add_argument("first", type=Path, metavar="A")
    diff.add_argument("second", type=Path, metavar="B")
    diff.set_defaults(run=diff_command)
    return parser


def _add_choices(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--profile", default="quick", choices=["quick", "full"], help="how much to measure (quick)")
    parser.add_argument("--models", default="", metavar="A,B", help="which models (all); NAME+disk keeps data on disk")
    parser.add_argument("--experiments", default="", metavar="A,B", help="which, by name or number (the profile's)")
    parser.add_argument("--repeats", type=_repeats, metavar="N", help="how often (3 in quick, 5 in full)")
    parser.add_argument("--server-cores", type=_repeats, default=1, metavar="N", help="processors of the server (1)")


def _repeats(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 100):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 to 100")
    return int(text)


def run_command(args: argparse.Namespace) -> int:
    """Measure and report."""
    return _run(args, args.out or REPORTS / time.strftime("%Y-%m-%d-%H%M%S"), args.resume)


def _run(args: argparse.Namespace, directory: Path, resume: Path | None = None) -> int:
    from kvss_gevent.compare.measuring import cell_runner
    from kvss_gevent.compare.measuring.cores import describe, divide, quietly
    from kvss_gevent.compare.plan import PROFILES, WrongChoice, choose

    settings: dict[str, Any] = {"seed": random.randrange(1 << 31)}
    if resume:
        journal = Journal.read(resume)
        settings = journal.settings
        args.profile, args.repeats = settings["profile"], settings["repeats"]
        args.models, args.experiments = ",".join(settings["contestants"]), ",".join(settings["experiments"])
        args.server_cores = settings["server_cores"]
    try:
        names = _names(args.models), _names(args.experiments)
        plan = choose(PROFILES[args.profile], *names, args.repeats, settings["seed"])
        cores = divide(args.server_cores)
    except ValueError as error:  # WrongChoice is one
        kind = "choice" if isinstance(error, WrongChoice) else "--server-cores"
        raise Fail(f"{kind}: {error}", "python -m kvss_gevent.compare run --help says what can be chosen.") from None
    if not plan.contestants:
        raise Fail(f"none of the chosen models can run: {plan.left_out}", "pip install 'kvss-gevent[lab]'")
    if not resume:
        settings |= {
            "profile": plan.profile.name,
            "repeats": plan.repeats,
            "server_cores": args.server_cores,
            "contestants": list(plan.contestants),
            "experiments": list(plan.experiments),
            "left_out": plan.left_out,
            "cells": [[cell.experiment, cell.model, cell.repeat] for cell in plan.cells()],
            "command": quietly([sys.executable, "-m", "kvss_gevent.compare", *sys.argv[1:]]),
            "machine": describe(cores),
        }
        try:
            journal = Journal.create(directory, settings)
        except FileExistsError:
            raise Fail(f"{directory} has a report already", f"Go on with it by --resume {directory}.") from None
        except OSError as error:
            raise Fail(f"cannot write to {directory}: {error.strerror}", "Give another --out.", 3) from None
    for name, why in plan.left_out.items():
        _tell(f"left out: {name}: {why}")
    try:
        cell_runner.run(plan, journal, cores, _tell)
    except KeyboardInterrupt:
        whole = len(plan.cells())
        print(
            f"kvss compare: interrupted after {len(journal.done())} of {whole} cells\n"
            f"  Go on with: python -m kvss_gevent.compare run --resume {journal.directory}",
            file=sys.stderr,
        )
        return 130
    except OSError as error:
        raise Fail(f"cannot write to {journal.directory}: {error.strerror}", "Make room, then --resume.", 3) from None
    _show(journal)
    return Exit.OK


def again_command(args: argparse.Namespace) -> int:
    """Measure twice and look for contradictions."""
    from kvss_gevent.compare.report.diff import contradictions

    base = REPORTS / time.strftime("%Y-%m-%d-%H%M%S")
    journals = []
    for number in (1, 2):
        directory = base.with_name(f"{base.name}-{number}")
        if code := _run(args, directory):
            return code
        journals.append(Journal.read(directory))
    found = contradictions(*journals)
    for line in found:
        print(f"contradiction: {line}")
    if not found:
        print("both say the same: the order in CPU per request where intervals are apart, and every known truth")
    return Exit.FAILED if found else Exit.OK


def report_command(args: argparse.Namespace) -> int:
    """Make the report anew."""
    journal = Journal.read(args.directory)
    if not journal.rows:
        raise Fail(f"{args.directory} has no rows yet", f"Go on with it: run --resume {args.directory}.")
    _show(journal)
    return Exit.OK


def _show(journal: Journal) -> None:
    """Make the report, print what it says and, last, where its page is. Raises Fail."""
    from kvss_gevent.compare.report import document

    try:
        path = document.write(journal)
    except OSError as error:
        raise Fail(
            f"cannot write to {journal.directory}: {error.strerror}", "Make room, then `report` again.", 3
        ) from None
    for line in document.as_text(journal):
        print(line)
    print(path)


def diff_command(args: argparse.Namespace) -> int:
    """Compare two reports."""
    from kvss_gevent.compare.report.diff import as_text, compare

    first, second = Journal.read(args.first), Journal.read(args.second)
    for name in ("processor", "kernel", "python"):
        ours, theirs = first.settings["machine"][name], second.settings["machine"][name]
        if ours != theirs:
            _tell(f"not the same {name}: {ours}, and {theirs}")
    print("\n".join(as_text(compare(first, second))))
    return Exit.OK


def _names(text: str) -> list[str]:
    return [name for name in text.replace(",", " ").split() if name]


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
