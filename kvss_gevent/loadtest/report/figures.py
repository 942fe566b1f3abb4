"""The percentiles of a histogram as plain data, with marks for those that are not certain."""

from typing import Any

from kvss_gevent.loadtest.engine.histogram import Histogram

PERCENTILES = {"p50_us": 50.0, "p90_us": 90.0, "p99_us": 99.0, "p99.9_us": 99.9, "p99.99_us": 99.99}
MAX = "max_us"

FEW = 10
"""A percentile with fewer values beyond it depends on chance."""


def figures(histogram: Histogram, censored: Histogram | None = None) -> dict[str, Any]:
    """Return count, percentiles, min, mean and max of a histogram, in microseconds.

    censored: how long requests without a reply had waited. All figures contain them with that time, which is a lower
    bound. `at_least` names the figures that would be greater if these requests never got a reply. `few` names the
    percentiles with fewer than 10 values beyond them.
    """
    whole = Histogram(histogram.counts)
    missing = censored.total if censored is not None else 0
    if censored is not None:
        whole.merge(censored)
    total = whole.total
    values = dict(zip(PERCENTILES, whole.percentiles(tuple(PERCENTILES.values())), strict=True))
    values[MAX] = whole.max_us
    at_least = []
    if missing:
        # The upper bound: these requests never get a reply.
        for name, percent in {**PERCENTILES, MAX: 100.0}.items():
            rank = max(int(percent * total / 100 + 0.5), 1)
            if rank > histogram.total or _at_rank(histogram, rank) > values[name]:
                at_least.append(name)
    few = [name for name, percent in PERCENTILES.items() if total * (100 - percent) / 100 < FEW]
    return {
        "count": total,
        "min_us": whole.min_us,
        "mean_us": round(whole.mean_us, 1),
        **values,
        "at_least": at_least,
        "few": few if total else [],
    }


def _at_rank(histogram: Histogram, rank: int) -> int:
    return histogram.percentile(100.0 * rank / histogram.total)
