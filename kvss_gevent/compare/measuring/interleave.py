"""Measures one generation: the servers of all contestants run at once, and each in turn is loaded for about 40 ms.

The order is shuffled for every round. So slow changes of the machine affect all servers alike, and two slices of a
round lie within a second of each other. Every generation has new servers, because the memory layout of a process
changes its cost by some percent for its whole life.
"""

import math
import random
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from kvss_gevent.compare.measuring.contestant import FailedError, command, places_of, serving
from kvss_gevent.compare.measuring.paced import Pace, PacedClients, Slice, prime
from kvss_gevent.compare.measuring.processors import Cores
from kvss_gevent.compare.rows import Point

LATE_SHARE = 0.02
"""If a larger share of requests was late, the server was saturated, or other processes had its processor."""

SATURATED_SHARE = 0.8
"""A server that was late and used a larger share of a processor was saturated, and its cost is that of a queue."""


def generation(  # noqa: PLR0913 - three are positional, the others have names
    contestants: Sequence[str],
    paces: Sequence[Pace],
    cores: Cores,
    *,
    rounds: int,
    slice_s: float,
    primed: bool = True,
    stored: bool = True,
) -> Iterator[tuple[str, Point | str]]:
    """Measure one generation; yields each contestant with a point for each pace, or with the reason why there is none.

    Figures: cpu_us, the geometric mean over the rounds, so that the ratio of two contestants is the mean of their
    ratios in the rounds; spread, the standard deviation of its logarithm over the rounds.
    """
    order = random.Random()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kvss-compare-")))
        clients: dict[str, PacedClients] = {}
        for name in order.sample(list(contestants), len(contestants)):
            try:
                server = stack.enter_context(serving(command(name, directory, cores=cores), cores.server))
                if primed:
                    prime(server.port)
                clients[name] = stack.enter_context(
                    PacedClients(server.port, server.pid, places_of(name, cores), stored=stored)
                )
            except FailedError as failed:
                yield name, str(failed)
        slices: dict[tuple[str, Pace], list[Slice]] = defaultdict(list)
        failed_at: set[tuple[str, Pace]] = set()
        for _ in range(rounds):
            for pace in paces:
                for name in order.sample(list(clients), len(clients)):
                    if (name, pace) in failed_at or pace.at_once > places_of(name, cores):
                        continue
                    try:
                        slices[name, pace].append(clients[name].slice(pace, slice_s))
                    except (FailedError, OSError) as failed:
                        failed_at.add((name, pace))
                        yield name, f"at {pace}: {failed}"
        for (name, pace), found in slices.items():
            if (name, pace) not in failed_at:
                yield name, _point(pace, found)


def _point(pace: Pace, found: list[Slice]) -> Point:
    logs = [math.log(one.cpu_ns / 1000 / one.requests) for one in found if one.cpu_ns > 0 and one.requests]
    late_share = sum(one.late for one in found) / max(sum(one.late + one.requests for one in found), 1)
    busy_share = sum(one.cpu_ns for one in found) / sum(one.wall_ns for one in found)
    figures = {"late_share": late_share, "busy_share": busy_share}
    saturated = late_share > LATE_SHARE and busy_share > SATURATED_SHARE
    if logs and not saturated:
        figures |= {"cpu_us": math.exp(statistics.fmean(logs)), "spread": statistics.pstdev(logs)}
    errors = {"requests due that it was too busy for": sum(one.late for one in found)} if saturated else {}
    return Point(pace.per_s, figures, errors, case=str(pace), disturbed=late_share > LATE_SHARE and not saturated)
