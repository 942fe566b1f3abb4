"""Measures the cells of a plan one by one, each in a process of its own, and writes down what came of it.

The process is the generator: it runs on the generator's processors, starts the server on the server's, and is ended
with all that it started when the cell takes too long. A cell that fails is a row that says why.
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
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import gevent

from kvss_gevent.compare import experiments
from kvss_gevent.compare.measuring.contestant import FailedError, raise_descriptor_limit
from kvss_gevent.compare.measuring.cores import Cores
from kvss_gevent.compare.measuring.experiment_context import Profile, Workbench
from kvss_gevent.compare.plan import Plan
from kvss_gevent.compare.rows import Cell, Journal, Point, Row
from kvss_gevent.models.processes import end_with

LIMIT_S = 60.0
"""For a cell whose experiment has no LIMIT_S; the full profile has three times as long."""

FIRST_GUESS_S = 3.0

Measured = list[Row]
Tell = Callable[[str], None]


def run(plan: Plan, journal: Journal, cores: Cores, tell: Tell) -> None:
    """Measure what the journal does not have yet; tell takes a line for each cell."""
    todo = [cell for cell in plan.cells() if cell not in journal.done()]
    took_s: dict[str, list[float]] = defaultdict(list)
    for number, cell in enumerate(todo, 1):
        begun_s = time.monotonic()
        rows = measure(cell, plan.profile, cores)
        journal.add(rows)
        took_s[cell.experiment].append(time.monotonic() - begun_s)
        left_s = _left_s(todo[number:], took_s)
        failed = next((f": {row.failed}" for row in rows if row.failed), "")
        tell(
            f"[{number}/{len(todo)}] {cell.experiment:<12} {cell.model:<13} {cell.repeat}/{plan.repeats}  "
            f"{took_s[cell.experiment][-1]:5.1f} s, {_span(left_s)} left{failed}"
        )


def measure(cell: Cell, profile: Profile, cores: Cores) -> Measured:
    """Measure one cell in a process of its own; returns its rows, or one that says why there are none."""
    module = experiments.load(cell.experiment)
    limit_s = getattr(module, "LIMIT_S", LIMIT_S) * (1 if profile.quick else 3)
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_be_generator, args=(cell, profile, cores, theirs, os.getpid()))
    process.start()
    theirs.close()
    outcome: list[Point] | str = f"took longer than {limit_s:g} s"
    try:
        if ours.poll(limit_s):
            outcome = ours.recv()
    except EOFError:
        outcome = "the measuring process ended before it was done"
    finally:
        # Its server is in its process group: whatever is left of the two ends here.
        if process.is_alive():
            process.join(0 if isinstance(outcome, str) else 15)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid or 0, signal.SIGKILL)
        process.join()
        ours.close()
    if isinstance(outcome, str):
        return [Row(cell, Point(0, {}), outcome)]
    return [Row(cell, point) for point in outcome]


def _be_generator(
    cell: Cell, profile: Profile, cores: Cores, out: "Connection[list[Point] | str, None]", parent: int
) -> None:
    """Be the process of a cell."""
    end_with(parent)  # and its server ends with this process
    gevent.reinit()  # an event loop that the parent may have had is not this process's
    os.setpgid(0, 0)
    os.sched_setaffinity(0, cores.generator)
    raise_descriptor_limit()
    outcome: list[Point] | str
    with tempfile.TemporaryDirectory(prefix="kvss-compare-") as directory:
        try:
            bench = Workbench(cell.model, profile, cores, Path(directory))
            outcome = list(experiments.load(cell.experiment).measure(bench)) or "it measured nothing"
        except FailedError as failed:
            outcome = str(failed)
        except Exception as mistake:
            traceback.print_exc(file=sys.stderr)
            outcome = f"a mistake of the laboratory: {mistake!r}"
    out.send(outcome)
    out.close()


def _left_s(todo: list[Cell], took_s: dict[str, list[float]]) -> float:
    """Guess how long the rest takes from what its experiments took so far."""
    known = [sum(took) / len(took) for took in took_s.values()]
    usual = sum(known) / len(known) if known else FIRST_GUESS_S
    means = {name: sum(took) / len(took) for name, took in took_s.items()}
    return sum(means.get(cell.experiment, usual) for cell in todo)


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
