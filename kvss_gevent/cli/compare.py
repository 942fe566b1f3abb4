"""`kvss compare`: measures all concurrency models with the same experiments, writes a report, and compares reports."""

import argparse
import os
import random
import shutil
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvss_gevent.cli.parser import add_subcommand
from kvss_gevent.settings.fail import Exit, Fail, install
from kvss_gevent.settings.kinds import whole
from kvss_gevent.settings.named_files import refuse_files_of_others

if TYPE_CHECKING:
    from kvss_gevent.compare.rows import Journal

REPORTS = Path("reports")
EPILOG = """\
examples:
  kvss compare run --models threads,gevent --experiments cost,burn
  kvss compare again --times 2
  kvss compare report reports/A
  kvss compare diff reports/A reports/B

exit codes: 0 done, 1 `again` found a contradiction, 2 wrong usage, 3 the report cannot be written, or a library is not
installed, 130 interrupted (the results are kept, and --resume continues)
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands of `kvss compare`."""
    parser.epilog = EPILOG
    words = parser.add_subparsers(metavar="COMMAND", required=True)
    measure = add_subcommand(words, "run", "measure and write a report", EPILOG)
    _add_choices(measure)
    measure.add_argument("--out", type=Path, metavar="DIR", help="directory of the report (reports/ plus the time)")
    measure.add_argument("--force", action="store_true", help="replace an existing report in DIR")
    measure.add_argument("--resume", type=Path, metavar="DIR", help="continue an interrupted run")
    measure.set_defaults(word=run_command)
    again = add_subcommand(
        words,
        "again",
        "measure several times, and check whether the results agree",
        "Compares each run with the runs before it: the verdicts on CPU per request, and which known truths it found. "
        "A verdict of `not determined` contradicts nothing. With --repeats N every run starts N generations of "
        f"servers, so that all runs take equally long; verdicts need at least 6.\n\n{EPILOG}",
    )
    _add_choices(again)
    again.add_argument("--times", type=whole(1, 100), default=2, metavar="N", help="number of runs (2)")
    again.set_defaults(word=again_command)
    report = add_subcommand(words, "report", "make the report of a run again from its rows", EPILOG)
    report.add_argument("directory", type=Path, metavar="DIR", help="directory of the report")
    report.set_defaults(word=report_command)
    diff = add_subcommand(words, "diff", "show which differences between two reports are real", EPILOG)
    diff.add_argument("first", type=Path, metavar="A", help="directory of a report")
    diff.add_argument("second", type=Path, metavar="B", help="directory of the other report")
    diff.set_defaults(word=diff_command)


def run(args: argparse.Namespace) -> int:
    """Run one subcommand; returns its exit code. Raises Fail."""
    if missing := [name for name in ("matplotlib", "locust") if not find_spec(name)]:
        raise Fail(f"the laboratory needs {', '.join(missing)}", install("lab,load"), Exit.UNREACHABLE)
    from kvss_gevent.compare.rows import UnreadableError

    try:
        code: int = args.word(args)
    except UnreadableError as error:
        raise Fail(error.cause, error.remedy) from None
    return code


def _add_choices(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--profile", default="quick", choices=["quick", "full"], help="how much to measure (quick)")
    parser.add_argument(
        "--models", default="", metavar="A,B", help="models to measure (all); NAME+disk keeps data on disk"
    )
    parser.add_argument(
        "--experiments", default="", metavar="A,B", help="experiments to run, by name or number (those of the profile)"
    )
    parser.add_argument("--repeats", type=whole(1, 100), metavar="N", help="how often to measure (as in the profile)")
    parser.add_argument(
        "--server-cores", type=whole(1, 100), default=1, metavar="N", help="number of processors for the server (1)"
    )


def run_command(args: argparse.Namespace) -> int:
    """Measure and report."""
    if args.out and args.force and (args.out / "rows.jsonl").exists():
        shutil.rmtree(args.out)
    return _run(args, args.out or REPORTS / time.strftime("%Y-%m-%d-%H%M%S"), args.resume)


def _run(args: argparse.Namespace, directory: Path, resume: Path | None = None) -> int:
    from kvss_gevent.compare.measuring import trial_runner
    from kvss_gevent.compare.measuring.processors import describe, divide, quietly
    from kvss_gevent.compare.plan import PROFILES, WrongChoice, choose
    from kvss_gevent.compare.rows import PAGE, ROWS_CSV, ROWS_JSON, Journal

    settings: dict[str, Any] = {"seed": random.randrange(1 << 31)}
    if resume:
        journal = Journal.read(resume)
        settings = journal.settings
        args.profile = settings["profile"]
        args.repeats = None if settings["may_add"] else settings["repeats"]
        args.models, args.experiments = ",".join(settings["contestants"]), ",".join(settings["experiments"])
        args.server_cores = settings["server_cores"]
    try:
        names = _names(args.models), _names(args.experiments)
        plan = choose(PROFILES[args.profile], *names, args.repeats, settings["seed"])
        cores = divide(args.server_cores)
    except WrongChoice as error:
        raise Fail(str(error), error.remedy) from None
    except ValueError as error:
        raise Fail(f"--server-cores: {error}", "Give a smaller number.") from None
    if not plan.contestants:
        raise Fail(f"none of the chosen models can run: {plan.left_out}", install("lab"), Exit.UNREACHABLE)
    if not resume:
        settings |= {
            "profile": plan.profile.name,
            "repeats": plan.repeats,
            "generations": plan.generations,
            "may_add": plan.may_add,
            "server_cores": args.server_cores,
            "contestants": list(plan.contestants),
            "experiments": list(plan.experiments),
            "left_out": plan.left_out,
            "trials": [[trial.experiment, trial.model, trial.repeat] for trial in plan.trials()],
            "command": quietly(["kvss", *sys.argv[1:]]),
            "machine": describe(cores),
        }
        try:
            refuse_files_of_others(directory, (PAGE, ROWS_CSV, ROWS_JSON), Journal.NAME)
            journal = Journal.create(directory, settings)
        except FileExistsError:
            raise Fail(
                f"{directory} already has a report",
                f"Continue it with --resume {directory}, or replace it with --force.",
            ) from None
        except OSError as error:
            raise Fail(f"cannot write to {directory}: {error.strerror}", "Give another --out.", 3) from None
    for name, why in plan.left_out.items():
        _tell(f"left out: {name}: {why}")
    try:
        trial_runner.run(plan, journal, cores, _tell)
    except KeyboardInterrupt:
        whole = len(plan.trials())
        print(
            f"kvss compare: interrupted after {len(journal.done())} of {whole} trials\n"
            f"  Continue with: kvss compare run --resume {journal.directory}",
            file=sys.stderr,
        )
        return 130
    except OSError as error:
        raise _cannot_write(journal, error) from None
    _show_scenes(journal)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    _show(journal)
    return Exit.OK


def _show_scenes(journal: "Journal") -> None:
    """Record the scenes of the experiments with the same models; the report links them. Raises Fail."""
    from kvss_gevent.compare import experiments
    from kvss_gevent.compare.measuring.contestant import model_of
    from kvss_gevent.compare.report.document import SCENES
    from kvss_gevent.models import MODULES
    from kvss_gevent.trace.page import scene_files
    from kvss_gevent.trace.scenes.catalogue import SCENES as CATALOGUE

    names = dict.fromkeys(filter(None, map(experiments.scene_of, journal.settings["experiments"])))
    models = [name for name in dict.fromkeys(map(model_of, journal.settings["contestants"])) if name in MODULES]
    for name in names if sys.platform == "linux" else ():
        _tell(f"scene {name}")
        recorded = [scene_files.record_and_analyse(CATALOGUE[name], model) for model in models]
        for why in (one for one in recorded if isinstance(one, str)):
            _tell(f"scene {name}: {why}")
        analyses = [one for one in recorded if not isinstance(one, str)]
        try:
            if analyses:
                scene_files.write(journal.directory / SCENES, CATALOGUE[name], analyses)
        except OSError as error:
            raise _cannot_write(journal, error) from None


def _cannot_write(journal: "Journal", error: OSError) -> Fail:
    return Fail(f"cannot write to {journal.directory}: {error.strerror}", "Free some space, then use --resume.", 3)


def again_command(args: argparse.Namespace) -> int:
    """Measure several times, and look for contradictions; returns the exit code."""
    from kvss_gevent.compare.report.diff import contradictions, verdict_counts
    from kvss_gevent.compare.rows import Journal

    base = REPORTS / time.strftime("%Y-%m-%d-%H%M%S")
    runs: list[Journal] = []
    for number in range(1, args.times + 1):
        directory = base.with_name(f"{base.name}-{number}")
        if code := _run(args, directory):
            return code
        runs.append(Journal.read(directory))
    found = contradictions(runs)
    for line in (*verdict_counts(runs), *(f"contradiction: {line}" for line in found)):
        print(line)
    if not found:
        print(f"all {args.times} runs agree: the verdicts on CPU per request, and every known truth")
    return Exit.FAILED if found else Exit.OK


def report_command(args: argparse.Namespace) -> int:
    """Write the report of an earlier run again."""
    from kvss_gevent.compare.rows import Journal

    journal = Journal.read(args.directory)
    if not journal.rows:
        raise Fail(f"{args.directory} has no rows yet", f"Continue it with: run --resume {args.directory}.")
    _show(journal)
    return Exit.OK


def _show(journal: "Journal") -> None:
    """Write the report, print its text, and last the path of its page. Raises Fail."""
    from kvss_gevent.compare.report import document, report_files

    try:
        path = report_files.write(journal)
    except OSError as error:
        raise Fail(
            f"cannot write to {journal.directory}: {error.strerror}", "Free some space, then run `report` again.", 3
        ) from None
    for line in document.as_text(journal):
        print(line)
    print(path)


def diff_command(args: argparse.Namespace) -> int:
    """Compare two reports."""
    from kvss_gevent.compare.report.diff import as_text, compare
    from kvss_gevent.compare.rows import Journal

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
    """Show the progress of a run; on a terminal each line replaces the one before."""
    if sys.stderr.isatty():
        width = os.get_terminal_size(sys.stderr.fileno()).columns - 1
        print(f"\r{line[:width]:<{width}}", end="", file=sys.stderr, flush=True)
    else:
        print(line, file=sys.stderr, flush=True)
