"""`kvss load diff A B`: compares two runs, or two sets of runs, and shows which differences are more than chance.

A and B are directories of --kv-out, or of `kvss load repeat` with several runs each; then the medians are shown. A
difference counts as real if all runs of one side are above all runs of the other. With n runs on each side, chance does
this in 2 of (2n)! / n!^2 orders: 10 % for three runs, 1 % for five. With one run it is unknown how much another run
would differ.
"""

import argparse
import json
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from kvss_gevent.loadtest.report.figures import PERCENTILES
from kvss_gevent.loadtest.report.plot import curves
from kvss_gevent.loadtest.report.results import FORMAT, VERSION
from kvss_gevent.pages import shell, tables
from kvss_gevent.settings.fail import Exit, Fail
from kvss_gevent.settings.named_files import UnreadableFile, read_parsed

_ROWS = (
    ("answered/s", "requests", "answered_per_s"),
    ("failed", "requests", "failed"),
    *(
        (f"{part} {key.removesuffix('_us')}, us", part, key)
        for part in ("response", "service")
        for key in (*PERCENTILES, "max_us")
    ),
)
MAX_BYTES = 16 << 20
MAX_FIGURE = 1e15
_CURVE = (0.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99)


@dataclass(frozen=True, slots=True)
class Side:
    """The runs of one of the two sides."""

    name: str
    runs: tuple[dict[str, Any], ...]

    def values(self, part: str, key: str) -> list[float]:
        """Return one figure of every run; there are no times of a run without replies."""
        return [run[part][key] for run in self.runs if run[part].get("count", True)]


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure of both sides: the medians, and whether all runs of one side are above all runs of the other."""

    name: str
    left: float | None
    right: float | None
    """None if no run of the side has this figure."""
    real: bool | None
    """None if a side has fewer than two runs with this figure."""

    @property
    def change(self) -> str:
        """Return by how much the right side is greater, in percent."""
        return f"{(self.right - self.left) / self.left:+.1%}" if self.left and self.right is not None else ""


def read_side(path: Path) -> Side:
    """Read one run, or the runs in the folders of a directory. Raises Fail if there is none."""
    files = [path / "results.json"] if (path / "results.json").exists() else sorted(path.glob("*/results.json"))
    runs = []
    for file in files:
        try:
            run = read_parsed(file, MAX_BYTES, json.loads)
            known = (run["format"], run["version"]) == (FORMAT, VERSION) and _is_whole(run)
        except UnreadableFile as error:
            raise Fail(f"cannot read {file}: {error}", "Give a directory that --kv-out has written.") from None
        except (TypeError, KeyError, AttributeError):  # JSON of something else
            known = False
        if not known:
            raise Fail(f"{file} is not a result of this version of the load tester", "Run it again with --kv-out.")
        runs.append(run)
    if not runs:
        raise Fail(
            f"there are no results in {path}", "Give a directory that --kv-out or `kvss load repeat` has written."
        )
    return Side(path.name or str(path), tuple(runs))


def _is_whole(run: dict[str, Any]) -> bool:
    """Tell whether a result has all that is read here, in the right form. Raises what the look at another form does."""
    figures = [run[part][key] for _, part, key in _ROWS] + [run[part]["min_us"] for part in ("response", "service")]
    texts = [one["text"] for one in run["verdict"]["findings"] if not one["ok"]]
    return (
        all(isinstance(figure, int | float) and abs(figure) < MAX_FIGURE for figure in figures)
        and all(isinstance(text, str) for text in texts)
        and isinstance(run["verdict"]["trusted"], bool)
        and isinstance(run["options"], dict)
    )


def compare(left: Side, right: Side) -> Iterator[Difference]:
    """Yield the differences in throughput, failures and response time."""
    for name, part, key in _ROWS:
        a, b = left.values(part, key), right.values(part, key)
        real = None if min(len(a), len(b)) < 2 else max(a) < min(b) or max(b) < min(a)
        yield Difference(name, statistics.median(a) if a else None, statistics.median(b) if b else None, real)


def unlike(left: Side, right: Side) -> Iterator[str]:
    """Yield the options in which the sides differ; a comparison is useful only if no more than one differs."""
    ours, theirs = left.runs[0]["options"], right.runs[0]["options"]
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name) and name not in ("out", "server_pid", "live"):
            yield f"--kv-{name.replace('_', '-')}: {ours.get(name) or 'none'} and {theirs.get(name) or 'none'}"


def text(left: Side, right: Side) -> str:
    """Return the differences as a table for the terminal."""
    lines = [f"{'':<20}{left.name[:14]:>15}{right.name[:14]:>15}{'change':>10}  real"]
    for one in compare(left, right):
        lines.append(f"{one.name:<20}{_shown(one.left):>15}{_shown(one.right):>15}{one.change:>10}  {_word(one.real)}")
    lines.append(f"runs: {len(left.runs)} and {len(right.runs)}")
    lines += [f"options differ: {one}" for one in unlike(left, right)]
    lines += [f"not to be trusted: {one}" for one in _doubts(left, right)]
    return "\n".join(lines) + "\n"


def page(left: Side, right: Side) -> str:
    """Return the differences as a page with both percentile curves on one axis of nines."""
    rows: list[list[tables.Cell]] = [
        [one.name, (_shown(one.left), one.left), (_shown(one.right), one.right), one.change, _word(one.real)]
        for one in compare(left, right)
    ]
    picture = curves(
        {
            f"{side.name} ({kind})": _curve(side, kind)
            for side in (left, right)
            for kind in ("response", "service")
            if side.values(kind, "max_us")
        }
    )
    parts = [
        shell.heading(f"{left.name} and {right.name}", f"Medians of {len(left.runs)} and of {len(right.runs)} runs."),
        shell.figure(picture, "Each step to the right is one nine more: one request in 10, in 100, in 1,000."),
        tables.table(("", left.name, right.name, "change", "real"), rows),
        "<p>"
        + escape("Real: all runs of one side are above all runs of the other. With one run on a side nobody knows.")
        + "</p>",
    ]
    if differing := [*unlike(left, right)]:
        parts += ["<h2>Options that differ</h2>", shell.bullets(differing)]
    if doubts := [*_doubts(left, right)]:
        parts += ["<h2>Not to be trusted</h2>", shell.bullets(doubts)]
    return shell.page(f"{left.name} and {right.name}", "\n".join(parts))


def _curve(side: Side, kind: str) -> list[tuple[float, int]]:
    known = {0.0: "min_us", **{percent: name for name, percent in PERCENTILES.items()}}
    return [
        (percent, int(statistics.median(side.values(kind, known[percent])))) for percent in _CURVE if percent in known
    ]


def _doubts(*sides: Side) -> Iterator[str]:
    for side in sides:
        verdicts = [run["verdict"] for run in side.runs if not run["verdict"]["trusted"]]
        if verdicts:
            reasons = [one["text"] for one in verdicts[0]["findings"] if not one["ok"]]
            yield f"{len(verdicts)} of {len(side.runs)} runs of {side.name}, the first because {'; '.join(reasons)}"


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _word(real: bool | None) -> str:
    return {True: "yes", False: "no", None: "?"}[real]


EPILOG = """\
examples:
  kvss load diff out/a out/b
  kvss load diff out/a out/b --page diff.html

exit codes: 0 done, 2 wrong usage, 3 Locust is not installed"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `kvss load diff`."""
    parser.epilog = EPILOG
    parser.add_argument("left", type=Path, metavar="A", help="a directory of --kv-out or of `kvss load repeat`")
    parser.add_argument("right", type=Path, metavar="B", help="another")
    parser.add_argument("--page", type=Path, metavar="FILE", help="also write an HTML page")


def run(args: argparse.Namespace) -> int:
    """Print the differences, and write the page if --page is given; returns the exit code. Raises Fail."""
    left, right = read_side(args.left), read_side(args.right)
    print(text(left, right), end="")
    if args.page:
        args.page.write_text(page(left, right), encoding="utf-8")
    return Exit.OK
