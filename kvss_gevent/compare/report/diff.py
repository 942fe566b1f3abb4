"""Compares reports: which differences are real and which are noise, and whether repeated runs agree."""

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kvss_gevent.compare.estimate import T_95, Ratio, Standing
from kvss_gevent.compare.experiments import cost
from kvss_gevent.compare.measuring.contestant import label_of
from kvss_gevent.compare.report.document import findings, measured, see
from kvss_gevent.compare.rows import Journal
from kvss_gevent.compare.words import listed

COMPARED = ("cpu_us", "rate_per_s", "answered_per_s", "p50_us", "p99_us", "max_us", "each_kib", "switches", "calls")
"""The figures that are compared; derived figures and those of the generator are not."""

LEAST = 1.05
"""Smaller factors are not shown."""

SEVERITY = 1.5
"""The factor by which intervals are wider than for a single comparison, because a report has hundreds of figures."""

_HELD = {True: "held", False: "did not hold"}

Place = tuple[str, str, str, float, str]
"""Experiment, model, case, x, figure."""


@dataclass(frozen=True, slots=True)
class FigureChange:
    """A figure in both reports. factor: second over first, divided by the common change of all models."""

    place: Place
    first: float
    second: float
    factor: Ratio
    real: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """The comparison of two reports. shifts: the common change of all models, by experiment and figure."""

    shifts: dict[tuple[str, str], float]
    differences: list[FigureChange]


def compare(first: Journal, second: Journal) -> Comparison:
    """Compare the figures that both reports have.

    The interval of a factor is that of a difference of two means of logarithms, by Student's t, with the standard
    deviation of the repeats pooled over the models of the experiment. A difference is real if its whole interval is
    further from 1 than LEAST. The common change of all models is separate: it comes from the machine, or affects all.
    """
    ours, theirs = dict(_values(first)), dict(_values(second))
    by_figure: dict[tuple[str, str], list[Place]] = defaultdict(list)
    for place in ours:
        if place in theirs:
            by_figure[place[0], place[4]].append(place)
    shifts: dict[tuple[str, str], float] = {}
    differences = []
    for key, places in by_figure.items():
        logs = {place: _mean_log(theirs[place]) - _mean_log(ours[place]) for place in places}
        shift = statistics.median(logs.values()) if len(places) > 2 else 0.0
        shifts[key] = math.exp(shift)
        spread, degrees = _pooled_spread([values for place in places for values in (ours[place], theirs[place])])
        for place in places:
            n = min(len(ours[place]), len(theirs[place]))
            error = spread * math.sqrt(1 / len(ours[place]) + 1 / len(theirs[place]))
            half = T_95[min(max(degrees, 1), len(T_95)) - 1] * error * SEVERITY
            log = logs[place] - shift
            factor = Ratio(math.exp(log), math.exp(log - half), math.exp(log + half), n)
            real = n > 1 and (factor.low > LEAST or factor.high < 1 / LEAST)
            differences.append(
                FigureChange(place, statistics.median(ours[place]), statistics.median(theirs[place]), factor, real)
            )
    return Comparison(shifts, differences)


def _mean_log(values: list[float]) -> float:
    return statistics.fmean(map(math.log, values))


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


def _pooled_spread(groups: list[list[float]]) -> tuple[float, int]:
    """Return the standard deviation of logarithms around their group's mean, over all groups, and its degrees."""
    squares, degrees = 0.0, 0
    for values in groups:
        mean = _mean_log(values)
        squares += sum((math.log(value) - mean) ** 2 for value in values)
        degrees += len(values) - 1
    return (math.sqrt(squares / degrees) if degrees else 0.0), degrees


def contradictions(runs: Sequence[Journal]) -> list[str]:
    """Return where a run contradicts a run before it: in verdicts on CPU per request, or in known truths.

    `not determined` contradicts nothing.
    """
    found = []
    said: dict[str, tuple[str, int]] = {}
    for number, journal in enumerate(runs, 1):
        for what, now in (*_settled(journal), *((repr(key), _HELD[holds]) for key, holds in truths(journal).items())):
            before, since = said.setdefault(what, (now, number))
            if before != now:
                found.append(f"{what}: {before} in run {since}, {now} in run {number}")
    return found


def verdict_counts(runs: Sequence[Journal]) -> Iterator[str]:
    """Yield how often each model got each verdict on its CPU per request, at each pace."""
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for journal in runs:
        for key, verdict in cost_verdicts(journal).items():
            counts[key][verdict.value] += 1
    for (name, pace), verdicts in counts.items():
        times = ", ".join(f"{verdict} {count} of {sum(verdicts.values())}" for verdict, count in verdicts.most_common())
        yield f"{label_of(name)} at {pace}: {times}"


def _settled(journal: Journal) -> Iterator[tuple[str, str]]:
    for (name, pace), verdict in cost_verdicts(journal).items():
        if verdict is not Standing.OPEN:
            yield f"{label_of(name)} at {pace}", verdict.value


def cost_verdicts(journal: Journal) -> dict[tuple[str, str], Standing]:
    """Return the verdicts on each model's CPU compared with the product's, by model and pace."""
    if "cost" not in measured(journal):
        return {}
    seen = see(journal, "cost")
    return {
        (name, str(pace)): ratio.verdict for pace in cost.PACES for name, ratio in cost.ratios_at(seen, pace).items()
    }


def truths(journal: Journal) -> dict[str, bool]:
    """Return which known truths were confirmed and which were not; undecided ones are left out."""
    return {
        one.key: one.holds
        for name in measured(journal)
        for one in findings(name, see(journal, name))
        if one.key and one.holds is not None
    }


def as_text(comparison: Comparison) -> Iterator[str]:
    """Yield the comparison as lines of text."""
    for (experiment, figure), shift in comparison.shifts.items():
        if abs(math.log(shift)) > math.log(LEAST):
            yield f"all models, {experiment}: {figure} is {shift:.2f} times what it was; below is what goes beyond"
    real = [one for one in comparison.differences if one.real]
    for one in sorted(real, key=lambda one: -abs(math.log(one.factor.value))):
        experiment, model, case, x, figure = one.place
        where = f"{model}, {experiment} at {x:g}" + (f", {case}" if case else "")
        yield (
            f"real   {where}: {figure} {one.first:,.4g} -> {one.second:,.4g}, "
            f"{one.factor.value:.2f} times ({one.factor.low:.2f} to {one.factor.high:.2f})"
        )
    models = sorted({one.place[1] for one in comparison.differences})
    yield (
        f"{len(real)} of {len(comparison.differences)} figures differ by more than the repeats scatter"
        + (f"; compared were {listed(models)}" if models else "")
    )
