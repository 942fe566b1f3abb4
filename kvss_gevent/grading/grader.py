"""Grades the submissions of a class: copies each folder, builds it, starts it, runs the cases, and ends it."""

import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from kvss_gevent.conformance.case_plan import STATS_OF, Plan, planned
from kvss_gevent.conformance.process.shell_command import Bounds, ShellCommand
from kvss_gevent.conformance.process.submission import PORT_FIELD, Submission
from kvss_gevent.conformance.running.probe import Unreachable
from kvss_gevent.conformance.running.runner import grade_submission
from kvss_gevent.conformance.stats_forms import README
from kvss_gevent.grading.folder import ClassSettings, Refused, copy, recipe, remove
from kvss_gevent.grading.outcome import Outcome, OutcomeKind

START_S: Final = 10.0
"""How long a server may take until it accepts connections, if the budget is not smaller."""

_PORT_5050 = threading.Lock()
"""Commands without `{port}` run one at a time, because they all use port 5050."""


@dataclass(frozen=True, slots=True)
class Graded:
    """The outcomes of a class, sorted by name. complete: every submission has one."""

    outcomes: tuple[Outcome, ...]
    complete: bool


def grade_class(sources: Sequence[Path], settings: ClassSettings, jobs: int, done: Callable[[Outcome], None]) -> Graded:
    """Grade the submissions in these folders, `jobs` at a time. done is called in this thread after each.

    If Ctrl-C interrupts it, it returns the outcomes so far, with partial ones for the submissions that were running.
    """
    stop = threading.Event()
    outcomes: list[Outcome] = []
    complete = True
    with (
        tempfile.TemporaryDirectory(prefix="kvss-grade-", ignore_cleanup_errors=True) as place,
        ThreadPoolExecutor(jobs) as pool,
    ):
        works = [Path(place, str(number)) for number in range(len(sources))]
        left = [pool.submit(_grade, source, work, settings, stop) for source, work in zip(sources, works, strict=True)]
        try:
            for outcome in _as_completed(left):
                outcomes.append(outcome)
                done(outcome)
        except KeyboardInterrupt:
            complete = False
            stop.set()
            running = [future for future in left if not future.cancel()]
            outcomes += [future.result() for future in running]
    named = {outcome.name: outcome for outcome in outcomes}
    return Graded(tuple(named[name] for name in sorted(named)), complete)


def _as_completed(left: list[Future[Outcome]]) -> Iterator[Outcome]:
    """Yield each result when it is ready, of several in the order of the list; remove its future from the list."""
    while left:
        ready, _ = wait(left, return_when=FIRST_COMPLETED)
        for future in [one for one in left if one in ready]:
            left.remove(future)
            yield future.result()


def _grade(source: Path, work: Path, settings: ClassSettings, stop: threading.Event) -> Outcome:
    started = time.monotonic()
    plan = Plan(profile=settings.profile, only=settings.only, without=settings.exclude, weights=settings.weights)
    form = STATS_OF.get(settings.profile, README)
    nothing = Outcome(source.name, OutcomeKind.INTERRUPTED, 0.0, sum(case.points for case in planned(plan, form)))
    try:
        copy(source, work)
        outcome = _judge(work, settings, plan, nothing, stop)
    except Refused as refused:
        outcome = replace(nothing, kind=OutcomeKind.REFUSED, why=str(refused))
    except Exception as error:  # whatever one submission does, the others get their marks
        why = (
            f"the checker failed on it: {error!r}. This is a mistake of the checker: grade it alone with `kvss conform "
            "--command`, and report what it prints."
        )
        outcome = replace(nothing, kind=OutcomeKind.REFUSED, why=why)
    remove(work)
    return replace(outcome, duration_s=time.monotonic() - started)


def _judge(work: Path, settings: ClassSettings, plan: Plan, nothing: Outcome, stop: threading.Event) -> Outcome:
    """Build, start and grade the copy of a submission; nothing is its outcome without marks. Raises Refused."""
    steps = recipe(work, settings)
    nothing = replace(nothing, notes=steps.notes)
    variables = {"TMPDIR": tempfile.mkdtemp(dir=work)}
    if stop.is_set():
        return nothing
    if steps.build:
        death = ShellCommand(steps.build, work, Bounds(wall_s=settings.build_budget), variables).run(stop)
        if death is None:
            return nothing
        if death.limit or death.status:
            return replace(nothing, kind=OutcomeKind.NOT_BUILT, why=str(death), tail=death.stderr or death.stdout)
    if not steps.command:
        return replace(nothing, kind=OutcomeKind.NOT_STARTED, why="it has no run.sh")
    started = time.monotonic()
    bounds = Bounds(start_s=min(START_S, settings.budget))
    submission = Submission(ShellCommand(steps.command, work, bounds, variables), stop)
    turn = threading.Lock() if PORT_FIELD in steps.command else _PORT_5050
    with turn:
        try:
            left_s = settings.budget - (time.monotonic() - started)
            card = grade_submission(submission, replace(plan, budget_s=left_s))
        except Unreachable as failed:
            return replace(nothing, kind=OutcomeKind.NOT_STARTED, why=str(failed), tail=failed.tail)
        except KeyboardInterrupt:
            return nothing
    if not card.complete:
        return replace(nothing, card=card)
    kind = OutcomeKind.CRASHED if any(verdict.death for verdict in card.verdicts) else OutcomeKind.GRADED
    return replace(nothing, kind=kind, card=card, possible=card.possible)
