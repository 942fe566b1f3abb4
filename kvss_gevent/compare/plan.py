"""Which cells a run has, and in which order. Measuring them is for runner.py."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kvss_gevent import models
from kvss_gevent.compare import experiments
from kvss_gevent.compare.measuring.contestant import NULL, ON_DISK, model_of
from kvss_gevent.compare.measuring.experiment_context import FULL, QUICK, Profile
from kvss_gevent.compare.rows import Cell

PROFILES = {profile.name: profile for profile in (QUICK, FULL)}

CONTESTANTS = (*models.MODULES, f"gevent{ON_DISK}")
"""All models; and the product on disk, for fork and prefork to be compared with, which cannot keep data in memory."""


class WrongChoice(ValueError):
    """A name that there is not; the message says which there are."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A run: what is measured how often. left_out: contestants that cannot run here, with the reason.

    seed: of the order in which models are measured.
    """

    profile: Profile
    contestants: tuple[str, ...]
    experiments: tuple[str, ...]
    repeats: int
    left_out: dict[str, str]
    seed: int = 1

    def cells(self) -> list[Cell]:
        """Return the cells in the order of measuring: repeat by repeat, within it the models of an experiment shuffled.

        So what changes slowly on the machine meets all models alike, and no model always comes after the same one.
        """
        shuffle = random.Random(self.seed).shuffle
        cells = []
        for repeat in range(1, self.repeats + 1):
            for name in self.experiments:
                row = [Cell(name, contestant, repeat) for contestant in self.of(name)]
                shuffle(row)
                cells += row
        return cells

    def of(self, name: str) -> list[str]:
        """Return who takes part in an experiment."""
        module = experiments.load(name)
        only: Sequence[str] = getattr(module, "ONLY", self.contestants)
        without = getattr(module, "WITHOUT", {})
        taking_part = [name for name in self.contestants if name in only and model_of(name) not in without]
        return [*taking_part, NULL] if getattr(module, "CALIBRATED", False) else taking_part


def choose(
    profile: Profile,
    contestants: Iterable[str] = (),
    chosen: Iterable[str] = (),
    repeats: int | None = None,
    seed: int = 1,
) -> Plan:
    """Make a plan; nothing chosen means all contestants and, in the quick profile, the core experiments.

    Raises WrongChoice.
    """
    names = tuple(contestants) or CONTESTANTS
    for name in names:
        if model_of(name) not in models.MODULES:
            raise WrongChoice(
                f"there is no model {name!r}; there are {', '.join(models.MODULES)}, each also as NAME{ON_DISK}"
            )
    asked = tuple(chosen) or tuple(
        name for name in experiments.NAMES if not profile.quick or experiments.load(name).CORE
    )
    for name in asked:
        if _named(name) not in experiments.NAMES:
            raise WrongChoice(f"there is no experiment {name!r}; there are {', '.join(experiments.NAMES)}, or 1 to 14")
    wanted = {_named(name) for name in asked}
    left_out = {name: row.why_not for name in names if (row := models.describe(model_of(name))).why_not}
    return Plan(
        profile,
        tuple(name for name in dict.fromkeys(names) if name not in left_out),
        tuple(name for name in experiments.NAMES if name in wanted),
        repeats or profile.repeats,
        left_out,
        seed,
    )


def _named(name: str) -> str:
    """Return the name of an experiment that is given by name or number."""
    if name.isdigit() and 1 <= int(name) <= len(experiments.NAMES):
        return experiments.NAMES[int(name) - 1]
    return name
