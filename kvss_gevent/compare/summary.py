"""Summarises the rows of one experiment: medians with intervals, ratios, and contestants without figures."""

from collections.abc import Iterable, Sequence

from kvss_gevent.compare.estimate import Estimate, Ratio, estimate, paired_ratio
from kvss_gevent.compare.measuring.contestant import NULL
from kvss_gevent.compare.rows import Measurement
from kvss_gevent.compare.words import listed

TIMES = frozenset({"p50_us", "p99_us", "max_us", "response_us", "first_reply_p50_us", "first_reply_p99_us"})
"""Figures that contain only requests with a reply."""


class Seen:
    """The results of an experiment; `contestants` are those that could be measured."""

    def __init__(self, rows: Iterable[Measurement], order: Sequence[str]) -> None:
        self.rows = list(rows)
        good = {row.trial.model for row in self.rows if not row.failed}
        self.contestants = [name for name in order if name in good and name != NULL]
        self.null = NULL in good
        """Whether the null server was measured too; its figures are found under its name, NULL."""
        self.failed: dict[str, str] = {
            row.trial.model: row.failed for row in self.rows if row.failed and row.trial.model not in good
        }
        self._points: dict[tuple[str, str, float], list[Measurement]] = {}
        for row in self.rows:
            if not row.failed:
                self._points.setdefault((row.trial.model, row.point.case, row.point.x), []).append(row)

    def cases(self) -> list[str]:
        """Return the cases of the experiment, in the order of measuring."""
        return list(dict.fromkeys(row.point.case for row in self.rows if not row.failed))

    def xs(self, name: str | None = None, case: str | None = None) -> list[float]:
        """Return every x that was measured, of one contestant and case, or of all contestants but the null server."""
        return sorted(
            {
                x
                for of, in_case, x in self._points
                if (of == name if name else of != NULL) and (case is None or in_case == case)
            }
        )

    def values(self, name: str, x: float, figure: str, case: str = "") -> list[float]:
        """Return a figure's value in each repeat.

        Times of answered requests say nothing if others were not answered: such a repeat has no times.
        """
        return list(self._by_repeat(name, x, figure, case).values())

    def _by_repeat(self, name: str, x: float, figure: str, case: str) -> dict[int, float]:
        rows = self._points.get((name, case, x), ())
        return {
            row.trial.repeat: row.point.figures[figure]
            for row in rows
            if figure in row.point.figures and not (figure in TIMES and row.point.errors)
        }

    def ratio(self, name: str, reference: str, x: float, figure: str, case: str) -> Ratio | None:
        """Return a contestant's figure as a multiple of the reference's, over the generations that have both."""
        ours, theirs = self._by_repeat(name, x, figure, case), self._by_repeat(reference, x, figure, case)
        both = sorted(ours.keys() & theirs.keys())
        if len(both) < 2 or self.errors(name, x, case):  # the repeats without errors are no fair sample
            return None
        return paired_ratio([ours[one] for one in both], [theirs[one] for one in both])

    def unserved(self) -> dict[str, str]:
        """Return the contestants that did not serve everything, each with what and where."""
        found: dict[str, list[str]] = {}
        for name, case, x in self._points:
            errors = self.errors(name, x, case)
            if name != NULL and errors:
                what = listed(f"{number:,} {kind}" for kind, number in errors.items())
                found.setdefault(name, []).append(f"at {case or f'{x:g}'}: {what}")
        return {name: "; ".join(places) for name, places in found.items()}

    def disturbed(self, name: str, x: float, case: str) -> bool:
        """Tell whether other processes disturbed at least half of the repeats."""
        rows = self._points.get((name, case, x), ())
        return bool(rows) and sum(row.point.disturbed for row in rows) * 2 >= len(rows)

    def get(self, name: str, x: float, figure: str, case: str = "") -> Estimate | None:
        """Return a figure's median with its interval; None if it was not measured."""
        values = self.values(name, x, figure, case)
        return estimate(values) if values else None

    def limited(self, name: str, x: float, case: str = "") -> bool:
        """Tell whether the generator was saturated in at least half of the repeats."""
        rows = self._points.get((name, case, x), ())
        return bool(rows) and sum(row.point.limited for row in rows) * 2 >= len(rows)

    def errors(self, name: str, x: float, case: str = "") -> dict[str, int]:
        """Return what was not served, by kind: the highest number of each in a repeat."""
        most: dict[str, int] = {}
        for row in self._points.get((name, case, x), ()):
            for kind, number in row.point.errors.items():
                most[kind] = max(most.get(kind, 0), number)
        return most

    def ranking(
        self, figure: str, at: float | None = None, *, case: str = "", lowest_first: bool = True
    ) -> list[tuple[str, Estimate]]:
        """Return the contestants with a figure at an x (None: the largest), ordered by its median."""
        found = []
        for name in self.contestants:
            xs = self.xs(name, case)
            x = at if at is not None else max(xs, default=0.0)
            if (one := self.get(name, x, figure, case)) is not None:
                found.append((name, one))
        return sorted(found, key=lambda pair: pair[1].median, reverse=not lowest_first)
