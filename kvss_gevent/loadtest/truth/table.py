"""`kvss load truth`: the table of known truths, printed and, with --write, put into a page."""

import argparse
import time
from collections.abc import Iterable
from pathlib import Path

from kvss_gevent.loadtest.truth.cells import LOADS, QUICK, TRUTHS, Cell, all_cells
from kvss_gevent.loadtest.truth.harness import CellOutcome
from kvss_gevent.loadtest.truth.harness import run as run_cell
from kvss_gevent.settings.fail import Exit, Fail

_BEGIN, _END = "<!-- truth: made by `kvss load truth --write` -->", "<!-- end of truth -->"


def markdown(outcomes: Iterable[CellOutcome]) -> str:
    """Return the table: a row for each server, a column for each load."""
    marks = {(outcome.cell.server, outcome.cell.load): outcome.mark for outcome in outcomes}
    heads = [f"{load.loop} {load.processes}p d{load.depth}" for load in LOADS]
    lines = ["| server | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for server in TRUTHS:
        lines.append(f"| {server} | " + " | ".join(marks.get((server, load), "") for load in LOADS) + " |")
    return "\n".join(lines)


def write(page: Path, table: str) -> None:
    """Put the table between the marks of a page. Raises Fail where it has none."""
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise Fail(f"{page} has no place for the table", f"write these two lines into it: {_BEGIN} and {_END}")
    page.write_text(f"{before}{begin}\n\n{table}\n\n{end}{after}", encoding="utf-8")


EPILOG = """\
examples:
  kvss load truth --quick
  kvss load truth --only poisson

exit codes: 0 the reports agree with the logs, 1 one does not, 130 Ctrl-C"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `kvss load truth`."""
    parser.epilog = EPILOG
    parser.add_argument(
        "--quick", action="store_true", help=f"{len(QUICK)} cells instead of {len(LOADS) * len(TRUTHS)}"
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="only servers and loads whose name holds the text")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the table into a page, after every cell")


def run(args: argparse.Namespace) -> int:
    """Run the cells; 0 all agree, 1 one does not, 130 Ctrl-C."""
    cells = [Cell(server, load) for server, load in QUICK] if args.quick else list(all_cells())
    cells = [cell for cell in cells if args.only in f"{cell.server}; {cell.load};"]
    if args.write:
        write(args.write, markdown([]))
    begun = time.monotonic()
    outcomes: list[CellOutcome] = []
    try:
        for number, cell in enumerate(cells, 1):
            outcome = run_cell(cell)
            outcomes.append(outcome)
            if args.write:
                write(args.write, markdown(outcomes))
            print(f"{number:>4} of {len(cells)}  {outcome.mark:<10} {cell.server}; {cell.load}", flush=True)
            for complaint in outcome.complaints:
                print(f"{'':>24}{complaint}", flush=True)
    except KeyboardInterrupt:
        return 130
    wrong = [outcome for outcome in outcomes if outcome.mark == "NOT"]
    disturbed = sum(outcome.mark == "disturbed" for outcome in outcomes)
    print(
        f"{len(outcomes) - len(wrong) - disturbed} of {len(outcomes)} agree, {len(wrong)} do not, {disturbed} were "
        f"disturbed by the machine; {time.monotonic() - begun:.0f} s"
    )
    return Exit.FAILED if wrong else Exit.OK
