"""The experiments: which there are, what one consists of, and how one is loaded. Each has a file here.

An experiment is a module with

    TITLE     what is compared, as a heading
    VARIES    what is varied: the name and unit of x
    TEACHES   one sentence: what to take home
    BY_HAND   how to see the same with the tools at hand; PID stands for the server's process
    CORE      whether the quick profile has it
    PANELS    how its plot is drawn; see Panel
    measure(bench)   one repeat with one contestant: yields Points; raises FailedError. Or, where PAIRED,
    measure_together(bench)   one generation with all contestants: yields names with Points, or with why there is none
    is_settled(seen)   whether more generations would decide nothing
    findings(seen)   what the numbers say, sentences made from them; see Statement

and where it needs them

    PAIRED      whether all contestants are measured by turns
    CALIBRATED  whether the null server is measured beside the contestants
    STORELESS   whether the store has no part in it: a model that is there in memory is not measured again on disk
    ONLY        the contestants it is about, where it is not about all
    SCENE       the scene of `kvss show` in which the same can be seen
    WITHOUT     contestants that have no part in it, with the reason
    REPEATS     how often at the most, where more would say the same
    LIMIT_S     how long a trial may take at the most

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
"""In the order of the report; the number of an experiment is its place here, from 1."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture, which has one message.

    kind `lines`: a figure against x, a small picture for each contestant where there are many; `dots`: a figure at x
    `at` (the largest where None), a column for each case; `ratios`: how many times the reference's figure a contestant
    has, with the band of ties.

    title: the message. scale multiplies the figure to get the unit of the label. even: every x as far from the next,
    whatever it is. capped: a saturated generator makes the figure worse than the server is, so that it is drawn hollow.
    name: added to the file's name where an experiment draws one figure twice.
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
    """A sentence about the numbers; `holds` where it is a truth that was known before: did it come out? else None.

    key names the truth, so that two reports can be compared.
    """

    text: str
    holds: bool | None = None
    key: str = ""


def load(name: str) -> ModuleType:
    """Import an experiment's module."""
    return import_module(f"{__name__}.{name}")


def scene_of(name: str) -> str:
    """Return the scene that shows what an experiment measures; empty where there is none."""
    return str(getattr(load(name), "SCENE", ""))


def number_of(name: str) -> int:
    """Return an experiment's number."""
    return NAMES.index(name) + 1
