"""Plans a run: which trials it has, and in which order."""

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
"""All models; two of them also on disk, because fork and prefork cannot keep data in memory and need models to compare
with; and the product once more, to show how much two equal servers differ."""


class WrongChoice(ValueError):
    """An unknown name was chosen; remedy lists the known ones."""

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(cause)
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class TrialPlan:
    """What a run measures, and how often. left_out: contestants that cannot run on this machine, with the reason.

    seed: the seed for the order in which models are measured.
    """

    profile: Profile
    contestants: tuple[str, ...]
    experiments: tuple[str, ...]
    repeats: int
    generations: int
    left_out: dict[str, str]
    seed: int
    may_add: bool
    """Whether generations may be added; False if the number of repeats was given."""

    def trials(self) -> list[Trial]:
        """Return the trials in order: repeat by repeat, and within a repeat the models of an experiment shuffled.

        So slow changes of the machine affect all models alike, and no model always comes after the same one.
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
        """Return the contestants of an experiment."""
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
    """Make a plan; by default with all contestants, and with all experiments or, in the quick profile, the core ones.

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
    """Tell whether an experiment measures all contestants in turn."""
    return bool(getattr(experiments.load(name), "PAIRED", False))


def _named(name: str) -> str:
    """Return the name of an experiment; it may be given by its number."""
    if name.isdigit() and 1 <= int(name) <= len(experiments.NAMES):
        return experiments.NAMES[int(name) - 1]
    return name
