"""Measurements as plain data: a point of an experiment, the row it becomes, and the journal that keeps the rows.

The journal is a file of JSON lines. The rows of a trial are added when the trial is done, so an interrupted run loses
only the current trial.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kvss_gevent.compare.journal_form import ROW, SETTINGS, fits
from kvss_gevent.settings.named_files import UnreadableFile, read_bytes

FORMAT = "kvss-compare"
VERSION = 2
MAX_BYTES = 64 << 20
PAGE = "index.html"
ROWS_CSV = "rows.csv"
ROWS_JSON = "rows.json"
"""The files of a report beside its journal and its pictures."""


@dataclass(frozen=True, slots=True)
class Point:
    """One measurement of an experiment: its x, its case if the experiment has several, and its figures.

    figures: the names have their unit, such as p99_us. errors: requests, connections or clients that were not served,
    by kind. limited: the generator was saturated, so the server may be better than its figures. disturbed: other
    processes used the generator's or the server's processor for a noticeable time.
    """

    x: float
    figures: Mapping[str, float]
    errors: Mapping[str, int] = field(default_factory=dict)
    limited: bool = False
    case: str = ""
    disturbed: bool = False


ALL = "*"
"""Instead of a model, for a trial of a paired experiment, which measures all models."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One repeat of one experiment with one model, or with ALL. It is measured, or fails, as a whole."""

    experiment: str
    model: str
    repeat: int

    def __str__(self) -> str:
        return f"{self.experiment} {self.model} #{self.repeat}"


@dataclass(frozen=True, slots=True)
class Measurement:
    """A point with its trial. failed: the reason, if the trial failed; then there are no figures."""

    trial: Trial
    point: Point
    failed: str = ""

    def as_data(self) -> dict[str, Any]:
        """Return the row as one flat dict for JSON."""
        return {**asdict(self.trial), **asdict(self.point), "failed": self.failed}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> "Measurement":
        """Return the row from the data that as_data made."""
        trial = Trial(data["experiment"], data["model"], data["repeat"])
        point = Point(data["x"], data["figures"], data["errors"], data["limited"], data["case"], data["disturbed"])
        return cls(trial, point, data["failed"])


class UnreadableError(Exception):
    """A journal cannot be used; cause and remedy are one line each."""

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(cause)
        self.cause = cause
        self.remedy = remedy


class Journal:
    """The rows of one run in a file, with the settings of the run."""

    NAME = "rows.jsonl"

    def __init__(self, directory: Path, settings: Mapping[str, Any], rows: Iterable[Measurement] = ()) -> None:
        self.directory = directory
        self.settings = dict(settings)
        self.rows = list(rows)

    @classmethod
    def create(cls, directory: Path, settings: Mapping[str, Any]) -> "Journal":
        """Begin a journal in a directory, which is created. Raises OSError; FileExistsError if it has a journal."""
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / cls.NAME).open("x") as file:
            file.write(json.dumps({"format": FORMAT, "version": VERSION, "settings": dict(settings)}) + "\n")
        return cls(directory, settings)

    @classmethod
    def read(cls, directory: Path) -> "Journal":
        """Read a journal. An incomplete last line is left out. Raises UnreadableError."""
        path = directory / cls.NAME
        try:
            lines = read_bytes(path, MAX_BYTES).decode(errors="replace").split("\n")
        except UnreadableFile as error:
            raise UnreadableError(
                f"cannot read {path}: {error}", "Name the directory of a report, such as reports/NAME."
            ) from None
        try:
            head = json.loads(lines[0])
            if head["format"] != FORMAT or head["version"] != VERSION:
                raise ValueError
            rows = [data for line in lines[1:-1] for data in json.loads(line)]
            if not (fits(head["settings"], SETTINGS) and fits(rows, [ROW])):
                raise ValueError
            return cls(directory, head["settings"], map(Measurement.from_data, rows))
        except (ValueError, KeyError, TypeError, RecursionError):
            raise UnreadableError(
                f"{path} is not a journal of this version", "It is damaged, or another version wrote it. Measure again."
            ) from None

    def add(self, rows: list[Measurement]) -> None:
        """Add the rows of one trial to the file, all or none. Raises OSError."""
        line = json.dumps([row.as_data() for row in rows]) + "\n"
        path = self.directory / self.NAME
        with path.open("r+") as file:
            # An incomplete line of an interrupted run is removed first.
            text = file.read()
            file.seek(0)
            file.truncate(len(text[: text.rfind("\n") + 1].encode()))
            file.seek(0, os.SEEK_END)
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        self.rows += rows

    def done(self) -> set[Trial]:
        """Return the trials that have rows: with their models and, for paired experiments, with ALL."""
        return {trial for row in self.rows for trial in (row.trial, Trial(row.trial.experiment, ALL, row.trial.repeat))}

    def of(self, experiment: str) -> Iterator[Measurement]:
        """Yield the rows of an experiment."""
        return (row for row in self.rows if row.trial.experiment == experiment)
