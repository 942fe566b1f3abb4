"""The experiments: which there are, what one consists of, and how one is loaded. Each has a file here.

An experiment is a module with

    TITLE     what is compared, as a heading
    VARIES    what is varied: the name and unit of x
    TEACHES   one sentence: what to take home
    BY_HAND   how to see the same with the tools at hand; PID stands for the server's process
    CORE      whether the quick profile has it
    PANELS    how its plot is drawn; see Panel
    measure(bench)   one repeat with one contestant: yields Points; raises FailedError
    findings(seen)   what the numbers say, sentences made from them; see Finding

and where it needs them

    CALIBRATED  whether the null server is measured beside the contestants
    ONLY        the contestants it is about, where it is not about all
    WITHOUT     contestants that have no part in it, with the reason
    LIMIT_S     how long a cell may take at the most

To add one, write its file and give it a line in NAMES.

May import: protocol, measure, loadtest.engine, compare, compare.measuring, compare.report.
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
)
"""In the order of the report; the number of an experiment is its place here, from 1."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One set of axes. kind `lines`: figure against x; `bars`: figure at x `at` (the largest where None).

    scale multiplies the figure to get the unit of the label. even: every x as far from the next, whatever it is.
    capped: a generator at its end makes the figure worse than the server is, so that it is drawn hollow.
    """

    figure: str
    label: str
    kind: str = "lines"
    scale: float = 1.0
    log_x: bool = True
    log_y: bool = True
    at: float | None = None
    case: str | None = None
    even: bool = False
    capped: bool = True


@dataclass(frozen=True, slots=True)
class Finding:
    """A sentence about the numbers; `holds` where it is a truth that was known before: did it come out? else None.

    key names the truth, so that two reports can be compared.
    """

    text: str
    holds: bool | None = None
    key: str = ""


def load(name: str) -> ModuleType:
    """Import an experiment's module."""
    return import_module(f"{__name__}.{name}")


def number_of(name: str) -> int:
    """Return an experiment's number."""
    return NAMES.index(name) + 1
