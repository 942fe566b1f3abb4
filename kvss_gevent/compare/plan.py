"""Which trials a run has, and in which order."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kvss_gevent import models
from kvss_gevent.compare import experiments
from kvss_gevent.compare.measuring.contestant import AGAIN, NULL, ON_DISK, model_of
from kvss_gevent.compare.measuring.experiment_context import FULL, QUICK, Profile
from kvss_gevent.compare.rows import ALL, Trial

PROFILES = {profile.name: profile for profile in (QUICK, FULL)}

CONTESTANTS = (*models.MODULES, f"gevent{ON_DISK}", f"threads{ON_DISK}", f"gevent{AGAIN}")
"""All models; two of them on disk, for fork and prefork to be compared with, which cannot keep data in memory; and the
product once more, for what equal servers differ by."""


class WrongChoice(ValueError):
    """A name that there is not; remedy says which there are."""

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(cause)
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class TrialPlan:
    """A run: what is measured how often. left_out: contestants that cannot run here, with the reason.

    seed: of the order in which models are measured.
    """

    profile: Profile
    contestants: tuple[str, ...]
    experiments: tuple[str, ...]
    repeats: int
    generations: int
    left_out: dict[str, str]
    seed: int = 1
    may_add: bool = True
    """Whether generations may be added; not where the number of repeats was asked for."""

    def trials(self) -> list[Trial]:
        """Return the trials in the order of measuring: repeat by repeat, in it the models of an experiment shuffled.

        So what changes slowly on the machine meets all models alike, and no model always comes after the same one.
        """
        shuffle = random.Random(self.seed).shuffle
        trials = []
        for repeat in range(1, max(self.repeats, self.generations) + 1):
            for name in self.experiments:
                if is_paired(name):
                    trials += [Trial(name, ALL, repeat)] * (repeat <= self.generations)
                elif repeat <= min(self.repeats, getattr(experiments.load(name), "REPEATS", self.repeats)):
                    row = [Trial(name, contestant, repeat) for contestant in self.of(name)]
                    shuffle(row)
                    trials += row
        return trials

    def of(self, name: str) -> list[str]:
        """Return who takes part in an experiment."""
        module = experiments.load(name)
        only: Sequence[str] = getattr(module, "ONLY", self.contestants)
        without = getattr(module, "WITHOUT", {})
        storeless = getattr(module, "STORELESS", False)
        taking_part = [
            contestant
            for contestant in self.contestants
            if contestant in only
            and model_of(contestant) not in without
            and (is_paired(name) or not contestant.endswith(AGAIN))
            and not (storeless and contestant.endswith(ON_DISK) and model_of(contestant) in self.contestants)
        ]
        return [*taking_part, NULL] if getattr(module, "CALIBRATED", False) else taking_part


def choose(
    profile: Profile,
    contestants: Iterable[str] = (),
    chosen: Iterable[str] = (),
    repeats: int | None = None,
    seed: int = 1,
) -> TrialPlan:
    """Make a plan; nothing chosen means all contestants and, in the quick profile, the core experiments.

    Raises WrongChoice.
    """
    names = tuple(contestants) or CONTESTANTS
    for name in names:
        if model_of(name) not in models.MODULES:
            raise WrongChoice(
                f"there is no model {name!r}",
                f"Give some of {', '.join(models.MODULES)}, each also as NAME{ON_DISK} and NAME{AGAIN}.",
            )
    asked = tuple(chosen) or tuple(
        name for name in experiments.NAMES if not profile.quick or experiments.load(name).CORE
    )
    for name in asked:
        if _named(name) not in experiments.NAMES:
            raise WrongChoice(
                f"there is no experiment {name!r}",
                f"Give some of {', '.join(experiments.NAMES)}, or 1 to {len(experiments.NAMES)}.",
            )
    wanted = {_named(name) for name in asked}
    left_out = {name: row.why_not for name in names if (row := models.describe(model_of(name))).why_not}
    return TrialPlan(
        profile,
        tuple(name for name in dict.fromkeys(names) if name not in left_out),
        tuple(name for name in experiments.NAMES if name in wanted),
        repeats or profile.repeats,
        repeats or profile.generations,
        left_out,
        seed,
        may_add=repeats is None,
    )


def is_paired(name: str) -> bool:
    """Tell whether an experiment measures all contestants by turns."""
    return bool(getattr(experiments.load(name), "PAIRED", False))


def _named(name: str) -> str:
    """Return the name of an experiment that is given by name or number."""
    if name.isdigit() and 1 <= int(name) <= len(experiments.NAMES):
        return experiments.NAMES[int(name) - 1]
    return name
