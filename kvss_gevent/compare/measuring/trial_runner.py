"""Measures the trials of a plan one by one, each in its own process, and adds their rows to the journal.

This process is the load generator: it runs on the generator's processors, and starts the server on the server's. If a
trial takes too long, it is ended with all that it started. A trial that fails becomes a row with the reason.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import tempfile
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import gevent

from kvss_gevent.compare import experiments
from kvss_gevent.compare.measuring.contestant import FailedError, label_of, raise_descriptor_limit
from kvss_gevent.compare.measuring.experiment_context import ExperimentContext, Generation
from kvss_gevent.compare.measuring.processors import Cores
from kvss_gevent.compare.plan import TrialPlan, is_paired
from kvss_gevent.compare.rows import ALL, Journal, Measurement, Point, Trial
from kvss_gevent.compare.summary import Seen
from kvss_gevent.models.processes import end_with

LIMIT_S = 60.0
"""The limit of a trial whose experiment has no LIMIT_S; in the full profile it is three times as long."""

FIRST_GUESS_S = 3.0

Tell = Callable[[str], None]


def run(plan: TrialPlan, journal: Journal, cores: Cores, tell: Tell) -> None:
    """Measure the trials that the journal does not have yet, then more generations if they may decide something.

    tell gets a line for each trial.
    """
    done = journal.done()
    todo = [trial for trial in plan.trials() if trial not in done]
    took_s: dict[str, list[float]] = defaultdict(list)
    begun_s = time.monotonic()

    def measure_one(trial: Trial, number: int, of: int, left: Sequence[Trial]) -> None:
        trial_begun_s = time.monotonic()
        rows = measure(trial, plan, cores)
        journal.add(rows)
        took_s[trial.experiment].append(time.monotonic() - trial_begun_s)
        failed = next((f": {row.trial.model}: {row.failed}" for row in rows if row.failed), "")
        who = "all" if trial.model == ALL else label_of(trial.model)
        tell(
            f"[{number}/{of}] {trial.experiment:<12} {who:<18} #{trial.repeat:<2} "
            f"{took_s[trial.experiment][-1]:5.1f} s, {_span(_left_s(left, took_s))} left{failed}"
        )

    for number, trial in enumerate(todo, 1):
        measure_one(trial, number, len(todo), todo[number:])
    for name in filter(is_paired, plan.experiments):
        module = experiments.load(name)
        last = plan.generations
        while (
            plan.may_add
            and last < plan.profile.most_generations
            and time.monotonic() - begun_s < plan.profile.budget_s
            and not module.is_settled(Seen(journal.of(name), plan.contestants))
        ):
            last += 1
            trial = Trial(name, ALL, last)
            if trial not in done:
                measure_one(trial, last, plan.profile.most_generations, ())


def measure(trial: Trial, plan: TrialPlan, cores: Cores) -> list[Measurement]:
    """Measure one trial in a new process; returns its rows, or one row with the reason why there are none."""
    module = experiments.load(trial.experiment)
    limit_s = getattr(module, "LIMIT_S", LIMIT_S) * (1 if plan.profile.quick else 3)
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_be_generator, args=(trial, plan, cores, theirs, os.getpid()))
    process.start()
    theirs.close()
    outcome: list[Measurement] | str = f"took longer than {limit_s:g} s"
    try:
        if ours.poll(limit_s):
            outcome = ours.recv()
    except EOFError:
        outcome = "the measuring process ended before it was done"
    finally:
        # The process and its server are one process group, which is killed here.
        if process.is_alive():
            process.join(0 if isinstance(outcome, str) else 15)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid or 0, signal.SIGKILL)
        process.join()
        ours.close()
    if isinstance(outcome, str):
        return [Measurement(trial, Point(0, {}), outcome)]
    return outcome


def _be_generator(
    trial: Trial, plan: TrialPlan, cores: Cores, out: "Connection[list[Measurement] | str, None]", parent: int
) -> None:
    """Run a trial in its own process."""
    end_with(parent)  # and its server ends with this process
    gevent.reinit()  # the parent may have had an event loop
    os.setpgid(0, 0)
    os.sched_setaffinity(0, cores.generator)
    raise_descriptor_limit()
    outcome: list[Measurement] | str
    with tempfile.TemporaryDirectory(prefix="kvss-compare-") as directory:
        try:
            outcome = list(_rows(trial, plan, cores, Path(directory))) or "it measured nothing"
        except FailedError as failed:
            outcome = str(failed)
        except Exception as mistake:
            traceback.print_exc(file=sys.stderr)
            outcome = f"a mistake of the laboratory: {mistake!r}"
    out.send(outcome)
    out.close()


def _rows(trial: Trial, plan: TrialPlan, cores: Cores, directory: Path) -> Iterator[Measurement]:
    module = experiments.load(trial.experiment)
    if trial.model == ALL:
        for name, found in module.measure_together(Generation(plan.of(trial.experiment), cores)):
            own = Trial(trial.experiment, name, trial.repeat)
            yield Measurement(own, Point(0, {}), found) if isinstance(found, str) else Measurement(own, found)
    else:
        for point in module.measure(ExperimentContext(trial.model, plan.profile, cores, directory)):
            yield Measurement(trial, point)


def _left_s(todo: Sequence[Trial], took_s: dict[str, list[float]]) -> float:
    """Estimate how long the rest takes from the trials so far."""
    known = [sum(took) / len(took) for took in took_s.values()]
    usual = sum(known) / len(known) if known else FIRST_GUESS_S
    means = {name: sum(took) / len(took) for name, took in took_s.items()}
    return sum(means.get(trial.experiment, usual) for trial in todo)


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
