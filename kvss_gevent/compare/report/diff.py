"""Two reports compared: which differences are real, which are noise, and whether a repetition says the same."""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from kvss_gevent.compare.estimate import Estimate, ratio
from kvss_gevent.compare.report.document import findings, measured, see
from kvss_gevent.compare.rows import Journal
from kvss_gevent.compare.words import listed

COMPARED = ("cpu_us", "rate_per_s", "answered_per_s", "p50_us", "p99_us", "max_us", "each_kib", "switches", "calls")
"""Figures that are compared; what follows from them, or describes the generator, is not."""

LEAST = 1.05
"""A smaller factor is not worth a line."""

SIGMAS = 3.0
CLEAR = 1.05
"""One model is cheaper than another only where intervals are apart and the medians differ by this factor."""

Place = tuple[str, str, str, float, str]
"""Experiment, model, case, x, figure."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A figure of the second report over that of the first, by which all models moved together divided out."""

    place: Place
    first: float
    second: float
    factor: Estimate
    real: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """shifts: by experiment and figure, the factor by which all models moved together; see differences."""

    shifts: dict[tuple[str, str], float]
    differences: list[Difference]


def compare(first: Journal, second: Journal) -> Comparison:
    """Compare what both reports have.

    A difference is real where the bootstrap interval of the ratio of medians leaves out 1 and the ratio is further from
    1 than the spread of the repeats, pooled over the models of the experiment, makes likely. What all models have in
    common is told apart: it is the machine's, or something that concerns all.
    """
    ours, theirs = dict(_values(first)), dict(_values(second))
    by_figure: dict[tuple[str, str], list[Place]] = defaultdict(list)
    for place in ours:
        if place in theirs:
            by_figure[place[0], place[4]].append(place)
    shifts: dict[tuple[str, str], float] = {}
    differences = []
    for key, places in by_figure.items():
        logs = [math.log(statistics.median(theirs[place]) / statistics.median(ours[place])) for place in places]
        shift = math.exp(statistics.median(logs)) if len(places) > 2 else 1.0
        shifts[key] = shift
        spread = _pooled_spread([values for place in places for values in (ours[place], theirs[place])])
        for place in places:
            one = ratio(theirs[place], ours[place])
            factor = Estimate(one.median / shift, one.low / shift, one.high / shift, one.n)
            # A median of n values scatters 1.25 / sqrt(n) times as much as one value.
            likely = SIGMAS * spread * 1.25 * math.sqrt(2 / one.n)
            real = (
                not factor.low <= 1 <= factor.high
                and abs(math.log(factor.median)) > max(likely, math.log(LEAST))
                and one.n > 1
            )
            differences.append(
                Difference(place, statistics.median(ours[place]), statistics.median(theirs[place]), factor, real)
            )
    return Comparison(shifts, differences)


def _values(journal: Journal) -> Iterator[tuple[Place, list[float]]]:
    for name in measured(journal):
        seen = see(journal, name)
        for who in seen.contestants:
            for case in seen.cases():
                for x in seen.xs(who, case):
                    for figure in COMPARED:
                        values = seen.values(who, x, figure, case)
                        if values and min(values) > 0:
                            yield (name, who, case, x, figure), values


def _pooled_spread(groups: list[list[float]]) -> float:
    """Return the standard deviation of a value's logarithm around its group's mean, over all groups."""
    squares = degrees = 0.0
    for values in groups:
        logs = [math.log(value) for value in values]
        mean = statistics.fmean(logs)
        squares += sum((one - mean) ** 2 for one in logs)
        degrees += len(logs) - 1
    return math.sqrt(squares / degrees) if degrees else 0.0


def contradictions(first: Journal, second: Journal) -> list[str]:
    """Return in what a repetition says otherwise: the order of models in CPU per request, and known truths."""
    found = []
    if "cost" in measured(first) and "cost" in measured(second):
        ours, theirs = (dict(see(one, "cost").ranking("cpu_us")) for one in (first, second))
        names = [name for name in ours if name in theirs]
        for number, one in enumerate(names):
            for other in names[number + 1 :]:
                if cheaper(ours[one], ours[other]) and cheaper(theirs[other], theirs[one]):
                    found.append(f"{one} cost less CPU than {other}, and now costs more")
    ours_hold, theirs_hold = verdicts(first), verdicts(second)
    for key, holds in ours_hold.items():
        if key in theirs_hold and theirs_hold[key] != holds:
            found.append(f"{key!r} {'held' if holds else 'did not hold'}, and now {'does not' if holds else 'does'}")
    return found


def cheaper(one: Estimate, other: Estimate) -> bool:
    """Tell whether one is clearly less than the other."""
    return one.high < other.low and one.median * CLEAR < other.median


def verdicts(journal: Journal) -> dict[str, bool]:
    """Return which known truths came out."""
    return {
        one.key: one.holds
        for name in measured(journal)
        for one in findings(name, see(journal, name))
        if one.key and one.holds is not None
    }


def as_text(comparison: Comparison) -> Iterator[str]:
    """Yield the lines that a person reads."""
    for (experiment, figure), shift in comparison.shifts.items():
        if abs(math.log(shift)) > math.log(LEAST):
            yield f"all models, {experiment}: {figure} is {shift:.2f} times what it was; below is what goes beyond"
    real = [one for one in comparison.differences if one.real]
    for one in sorted(real, key=lambda one: -abs(math.log(one.factor.median))):
        experiment, model, case, x, figure = one.place
        where = f"{model}, {experiment} at {x:g}" + (f", {case}" if case else "")
        yield (
            f"real   {where}: {figure} {one.first:,.4g} -> {one.second:,.4g}, "
            f"{one.factor.median:.2f} times ({one.factor.low:.2f} to {one.factor.high:.2f})"
        )
    models = sorted({one.place[1] for one in comparison.differences})
    yield (
        f"{len(real)} of {len(comparison.differences)} figures differ by more than the repeats scatter"
        + (f"; compared were {listed(models)}" if models else "")
    )
