"""`kvss load truth`: prints the table of known truths and, with --write, puts it into a page."""

import argparse
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from kvss_gevent.loadtest.truth import knee
from kvss_gevent.loadtest.truth.cells import LOADS, QUICK, Cell, Load, all_cells
from kvss_gevent.loadtest.truth.harness import CellOutcome, attempt, repeat
from kvss_gevent.settings.fail import Exit, Fail
from kvss_gevent.settings.kinds import number, whole

_BEGIN, _END = "<!-- truth: made by `kvss load truth --write` -->", "<!-- end of truth -->"


Marks = dict[tuple[str, Load], str]
"""The entries of the table by row and load."""


def markdown(outcomes: Iterable[CellOutcome], others: Marks | None = None) -> str:
    """Return the table: a row for each server, a column for each load. others: the marks of cells that were not run."""
    marks = (others or {}) | {(outcome.cell.row, outcome.cell.load): outcome.mark for outcome in outcomes}
    heads = [f"{load.loop} {load.processes}p d{load.depth}" for load in LOADS]
    lines = ["| server | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for row in dict.fromkeys(cell.row for cell in all_cells()):
        lines.append(f"| {row} | " + " | ".join(marks.get((row, load), "") for load in LOADS) + " |")
    return "\n".join(lines)


def _parts(page: Path) -> tuple[str, str, str]:
    """Return a page's text before, between and after the marks. Raises Fail if it has none or cannot be read."""
    try:
        text = page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or "it is not UTF-8"
        raise Fail(f"cannot read {page}: {reason}", "Name a page of text that exists.") from None
    before, begin, rest = text.partition(_BEGIN)
    table, end, after = rest.partition(_END)
    if not begin or not end:
        raise Fail(f"{page} has no place for the table", f"Write these two lines into the page: {_BEGIN} and {_END}")
    return before + begin, table, end + after


def read(page: Path) -> Marks:
    """Return the entries of a page's table. Raises Fail if the page has no place for a table."""
    marks: Marks = {}
    for line in _parts(page)[1].splitlines():
        row, *entries = [entry.strip() for entry in line.strip("|").split("|")]
        if len(entries) == len(LOADS):
            marks.update({(row, load): entry for load, entry in zip(LOADS, entries, strict=True)})
    return marks


def write(page: Path, table: str) -> None:
    """Put the table between the marks of a page. Raises Fail if it has none."""
    before, _, after = _parts(page)
    page.write_text(f"{before}\n\n{table}\n\n{after}", encoding="utf-8")


EPILOG = """\
examples:
  kvss load truth --quick
  kvss load truth --only poisson
  kvss load truth --search

exit codes:
  0    the reports agree with the logs, or the searches with the server
  1    one does not agree, or was not run
  2    wrong usage
  3    Locust is not installed
  4    the machine is too busy for a search to tell
  130  Ctrl-C"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `kvss load truth`."""
    parser.epilog = EPILOG
    parser.add_argument(
        "--quick", action="store_true", help=f"{len(QUICK)} cells instead of {sum(1 for _ in all_cells())}"
    )
    parser.add_argument("--search", action="store_true", help="three searches on a known highest rate instead of cells")
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="only servers and loads whose name contains the text"
    )
    parser.add_argument(
        "--write",
        type=Path,
        metavar="PAGE",
        help="write the table into this page, after every cell; what --only and --quick leave out stays as it is there",
    )
    parser.add_argument(
        "--minutes",
        type=number(0, 10_000),
        metavar="N",
        help="begin no cell after this time (default 25); end the searches then (15)",
    )
    parser.add_argument(
        "--together", type=whole(1, 64), default=2, metavar="N", help="cells that run side by side (default 2)"
    )


def run(args: argparse.Namespace) -> int:
    """Run the cells, or the searches; returns one of the exit codes of EPILOG."""
    if args.search:
        return knee.run(15 if args.minutes is None else args.minutes)
    cells = [Cell(server, load) for server, load in QUICK] if args.quick else list(all_cells())
    cells = [cell for cell in cells if args.only in f"{cell.row}; {cell.load};"]
    if not cells:
        raise Fail(f"no cell has {args.only!r} in its name", "Leave out --only to see all names.")
    progress = Progress(cells, args.write)
    ends = progress.begun + (25 if args.minutes is None else args.minutes) * 60
    pool = ThreadPoolExecutor(args.together)
    try:
        for done in as_completed([pool.submit(_once, cell, ends) for cell in cells]):
            if outcome := done.result():
                progress.add(outcome)
        # A cell that does not agree ran beside another cell; it runs again alone.
        for outcome in progress.wrong():
            if time.monotonic() < ends:
                progress.add(repeat(outcome))
    except KeyboardInterrupt:
        return 130
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return progress.finish()


def _once(cell: Cell, ends: float) -> CellOutcome | None:
    return attempt(cell) if time.monotonic() < ends else None


class Progress:
    """The outcomes so far; it prints them, and writes them into a page if one is named."""

    def __init__(self, cells: list[Cell], page: Path | None) -> None:
        self.begun = time.monotonic()
        self._planned = len(cells)
        self._page = page
        self._outcomes: dict[Cell, CellOutcome] = {}
        self._others: Marks = {}
        if page:
            planned = {(cell.row, cell.load) for cell in cells}
            self._others = {key: mark for key, mark in read(page).items() if key not in planned}
            write(page, markdown([], self._others))

    def add(self, outcome: CellOutcome) -> None:
        """Note and print an outcome; it replaces an earlier one of its cell."""
        cell = outcome.cell
        self._outcomes[cell] = outcome
        if self._page:
            write(self._page, markdown(self._outcomes.values(), self._others))
        print(f"{len(self._outcomes):>4} of {self._planned}  {outcome.mark:<10} {cell.row}; {cell.load}", flush=True)
        for complaint in outcome.complaints:
            print(f"{'':>24}{complaint}", flush=True)

    def wrong(self) -> list[CellOutcome]:
        """Return the outcomes of cells that do not agree."""
        return [outcome for outcome in self._outcomes.values() if outcome.complaints]

    def finish(self) -> int:
        """Print the sums, and return the exit code."""
        outcomes = self._outcomes.values()
        wrong = sum(outcome.mark == "NOT" for outcome in outcomes)
        disturbed = sum(outcome.mark == "disturbed" for outcome in outcomes)
        not_run = self._planned - len(outcomes)
        print(
            f"{len(outcomes) - wrong - disturbed} of {self._planned} agree, {wrong} do not, {disturbed} were disturbed "
            f"by the machine, {not_run} were not run; {time.monotonic() - self.begun:.0f} s"
        )
        return Exit.FAILED if wrong or not_run else Exit.OK
