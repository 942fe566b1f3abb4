"""Writes the results of a class into a folder. Each file is replaced in one step: no reader sees half a page."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from kvss_gevent.conformance.translation import Say, english
from kvss_gevent.grading.class_page import class_page
from kvss_gevent.grading.feedback_page import feedback_page
from kvss_gevent.grading.grader import Graded
from kvss_gevent.grading.mark_files import FEEDBACK, gradescope, junit, marks
from kvss_gevent.settings.fail import Fail
from kvss_gevent.settings.named_files import refuse_files_of_others

OWN_NAMES: Final = frozenset({"index.html", "marks.csv"})
"""Files in the same folder as those of the submissions; no submission may have such a name."""


def prepare(out: Path, names: list[str]) -> None:
    """Create the folder and check that it can be written, before anything is graded. Raises Fail."""
    taken = OWN_NAMES.intersection(names)
    if taken:
        raise Fail(f"a submission has the name {min(taken)}, like a file of the results", "Give it another name.")
    try:
        refuse_files_of_others(out, OWN_NAMES, FEEDBACK)
        for folder in (out, out / FEEDBACK):
            folder.mkdir(parents=True, exist_ok=True)
        probe = out / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise Fail(
            f"cannot write {out}: {(error.strerror or str(error)).lower()}", "Give --out another folder."
        ) from None


def write(out: Path, name: str, graded: Graded, say: Say = english) -> None:
    """Write pages, marks and the files of each submission of a class, the pages in a language. Raises OSError."""
    for place, data in _files(name, graded, say):
        path = out / place
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".new-{os.getpid()}")
        new.write_bytes(data)
        new.replace(path)


def _files(name: str, graded: Graded, say: Say) -> Iterator[tuple[str, bytes]]:
    outcomes = graded.outcomes
    yield "index.html", class_page(name, outcomes, say).encode()
    yield "marks.csv", marks(outcomes)
    for outcome in outcomes:
        yield f"{FEEDBACK}/{outcome.name}.html", feedback_page(outcome, say).encode()
        yield f"{outcome.name}/results.json", gradescope(outcome, say)
        yield f"{outcome.name}/junit.xml", junit(outcome)
