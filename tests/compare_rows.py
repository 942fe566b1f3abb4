"""Rows made by hand for tests of the laboratory: what a run would have written down."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kvss_gevent.compare.rows import Journal, Measurement, Point, Trial
from kvss_gevent.compare.summary import Seen

MACHINE = {
    "processor": "a processor",
    "processors": 2,
    "server_processors": [0],
    "generator_processors": [1],
    "memory_gib": 1.0,
    "kernel": "a kernel",
    "python": "CPython 3",
    "gil": "on",
    "compiler": "a compiler",
    "packages": {"gevent": "1"},
    "load_average": [0.0, 0.0, 0.0],
    "began": "today",
    "revision": "",
}


def rows(
    experiment: str, model: str, figures: Mapping[float, Mapping[str, float]], repeats: int = 3, **point: Any
) -> list[Measurement]:
    """Return rows of a model that measured the same in every repeat, given figures by x."""
    return [
        Measurement(Trial(experiment, model, repeat), Point(x, of_x, **point))
        for repeat in range(1, repeats + 1)
        for x, of_x in figures.items()
    ]


def seen(*parts: Iterable[Measurement]) -> Seen:
    """Return what was seen in these rows, contestants in their order."""
    together = [row for part in parts for row in part]
    return Seen(together, list(dict.fromkeys(row.trial.model for row in together)))


def journal(directory: Path, *parts: Iterable[Measurement], repeats: int = 3) -> Journal:
    """Return a journal on disk with these rows."""
    together = [row for part in parts for row in part]
    names = list(dict.fromkeys(row.trial.model for row in together))
    settings = {
        "seed": 1,
        "profile": "quick",
        "repeats": repeats,
        "generations": 6,
        "may_add": True,
        "server_cores": 1,
        "contestants": [name for name in names if name != "null"],
        "experiments": list(dict.fromkeys(row.trial.experiment for row in together)),
        "left_out": {},
        "trials": [[row.trial.experiment, row.trial.model, row.trial.repeat] for row in together],
        "command": "kvss compare run",
        "machine": MACHINE,
    }
    made = Journal.create(directory, settings)
    for trial in dict.fromkeys(row.trial for row in together):
        made.add([row for row in together if row.trial == trial])
    return made
