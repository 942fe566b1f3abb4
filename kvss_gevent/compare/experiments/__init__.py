"""The experiments: their list, their contract, and how one is imported. Each has a file here.

An experiment is a module with

    TITLE     what is compared, as a heading
    VARIES    what is varied: the name and unit of x
    TEACHES   what a reader should learn, in a few sentences
    BY_HAND   a command that shows the same; PID stands for the server's process
    CORE      whether the quick profile has it
    PANELS    its pictures; see Panel
    measure(context)   one repeat with one contestant: yields Points; raises FailedError. Or, if PAIRED,
    measure_together(context)   one generation with all contestants: yields names with Points, or with a reason
    is_settled(seen)   whether more generations would decide nothing
    findings(seen)   sentences made from the numbers; see Statement

and, if it needs them,

    PAIRED      whether all contestants are measured in turn
    CALIBRATED  whether the null server is measured too
    STORELESS   whether the store does not matter: then a model is not measured on disk if it is measured in memory
    ONLY        its contestants, if not all take part
    SCENE       the scene of `kvss show` that shows the same
    WITHOUT     contestants that do not take part, with the reason
    REPEATS     the highest number of repeats, if more would show the same
    LIMIT_S     the longest time of a trial

To add one, write its file and give it a line in NAMES.

May import: protocol, models, measure, loadtest.engine, compare, compare.measuring.
"""

from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Final

NAMES: Final = (
    "connections",
    "rate",
    "stall",
    "idle",
    "slow",
    "burn",
    "convoy",
    "blocking",
    "cost",
    "storm",
    "fairness",
    "depth",
    "value",
    "overload",
    "calls",
    "remedies",
    "isolation",
    "cores",
    "backpressure",
    "hotkey",
    "stop",
    "lines",
    "priming",
)
"""The experiments in the order of the report; an experiment's number is its position here, from 1."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture with one message.

    kind `lines`: a figure against x, with a small picture for each contestant if there are many; `dots`: a figure at
    the x `at` (None: the largest), with a column for each case; `ratios`: a contestant's figure as a multiple of the
    reference's, with the band of ties.

    title: the message. scale: the factor from the figure to the unit of the label. even: all x at equal distances.
    capped: a saturated generator makes the figure worse than the server is, so it is drawn hollow. name: part of the
    file's name, if an experiment draws a figure twice.
    """

    figure: str
    label: str
    kind: str = "lines"
    title: str = ""
    scale: float = 1.0
    log_x: bool = True
    log_y: bool = True
    at: float | None = None
    case: str | None = None
    even: bool = False
    capped: bool = True
    reference: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence about the numbers. key: the name of a known truth, if it is one, for the comparison of reports.

    holds: whether the known truth was confirmed; None if it is not decided, or if the sentence is not a known truth.
    """

    text: str
    holds: bool | None = None
    key: str = ""


def load(name: str) -> ModuleType:
    """Import an experiment's module."""
    return import_module(f"{__name__}.{name}")


def scene_of(name: str) -> str:
    """Return the scene that shows what an experiment measures; "" if there is none."""
    return str(getattr(load(name), "SCENE", ""))


def number_of(name: str) -> int:
    """Return an experiment's number."""
    return NAMES.index(name) + 1
