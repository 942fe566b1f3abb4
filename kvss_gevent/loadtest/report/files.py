"""Writes the results to the terminal and into the files of --kv-out."""

import csv
import json
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TextIO

from kvss_gevent.loadtest.engine.histogram import Histogram
from kvss_gevent.loadtest.engine.recorder import KINDS, RESPONSE, SERVICE
from kvss_gevent.loadtest.load_options import Options
from kvss_gevent.loadtest.report import hdr_log, run_page, text
from kvss_gevent.loadtest.report.collector import Collector
from kvss_gevent.loadtest.report.plot import Curve
from kvss_gevent.settings.fail import Fail
from kvss_gevent.settings.named_files import refuse_files_of_others
from kvss_gevent.settings.streams import OutputLost

RESULTS: Final = "results.json"
ROWS: Final = "rows.csv"
PAGE: Final = "report.html"
HDR_LOG: Final = "response.hlog"
"""It exists since the beginning of the first run, and is the mark of a directory of this load tester."""

_LEAST_INTERVAL_US = 20
"""Limits how many requests are added for the time of one slow request."""


def show(results: dict[str, Any], out: TextIO) -> None:
    """Print the report. Raises OutputLost."""
    try:
        out.write(text.text(results))
        out.flush()
    except OSError as error:  # of `locust -f`, whose output is Python's own
        raise OutputLost(error) from None


def prepare(options: Options) -> None:
    """Create the directory of --kv-out before the run. Raises Fail if it cannot be written to, or has others' files."""
    if not options.out:
        return
    directory = Path(options.out)
    try:
        refuse_files_of_others(directory, (RESULTS, ROWS, PAGE), HDR_LOG)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / RESULTS).unlink(missing_ok=True)
        (directory / HDR_LOG).touch()
    except OSError as error:
        cause = f"--kv-out: cannot write to {options.out}: {error.strerror}"
        raise Fail(cause, "Give a directory that can be created and written to.") from None


def write(results: dict[str, Any], collector: Collector, options: Options) -> None:
    """Write results.json, rows.csv, one .hgrm for each kind, response.hlog and report.html, if --kv-out is given."""
    if not options.out:
        return
    directory = Path(options.out)
    (directory / RESULTS).write_text(json.dumps(results, indent=1) + "\n")
    with (directory / ROWS).open("w", newline="") as out:
        rows = results["rows"]
        writer = csv.DictWriter(out, fieldnames=list(rows[0]) if rows else ["second"])
        writer.writeheader()
        writer.writerows(rows)
    for kind in KINDS:
        (directory / f"{kind}.hgrm").write_text(hdr_log.hgrm(_together(collector, kind)))
    with (directory / HDR_LOG).open("w") as out:
        started_at = datetime.fromisoformat(results["environment"]["started_at"]).timestamp()
        hdr_log.write_log(out, started_at, collector.log)
    (directory / PAGE).write_text(run_page.render(results, _percentiles(collector, results)))


def _together(collector: Collector, kind: str) -> Histogram:
    """Return the times of a kind of all good requests; response times also of requests without a reply."""
    whole = collector.whole.together(kind)
    if kind == RESPONSE:
        whole.merge(collector.whole.censored)
    return whole


def _percentiles(collector: Collector, results: dict[str, Any]) -> dict[str, Curve]:
    whole = {kind: _together(collector, kind) for kind in KINDS}
    if results["loop"] == "closed" and results["requests"]["answered_per_s"]:
        # The mean time between two requests of one user.
        interval_us = int(1e6 * results["environment"]["users"] / results["requests"]["answered_per_s"])
        whole["an open loop's response"] = whole[RESPONSE].corrected(max(interval_us, _LEAST_INTERVAL_US))
    return {
        kind: [(percent, value_us) for percent, value_us, _ in hdr_log.distribution(histogram)]
        for kind, histogram in whole.items()
        if histogram.counts and (kind != SERVICE or histogram.counts != whole[RESPONSE].counts)
    }
