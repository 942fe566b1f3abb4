"""Where results go: the terminal and the files of --kv-out. Contents are for results.py, report.py and page.py."""

import csv
import json
import sys
from pathlib import Path
from typing import Any

from kvss_gevent.loadtest.engine.recorder import KINDS, RESPONSE, SERVICE
from kvss_gevent.loadtest.options import Options
from kvss_gevent.loadtest.report import hdr_log, run_page, text
from kvss_gevent.loadtest.report.collector import Collector
from kvss_gevent.loadtest.report.plot import Curve
from kvss_gevent.settings.fail import Fail


def show(results: dict[str, Any]) -> None:
    """Print the report on stdout."""
    sys.stdout.write(text.text(results))
    sys.stdout.flush()


def complain(cause: str) -> None:
    """Print why the run ended early on stderr."""
    print(f"kvss load: {cause}", file=sys.stderr, flush=True)


def prepare(options: Options) -> None:
    """Make the directory of --kv-out before there is anything to lose. Raises Fail where it cannot be written to."""
    if not options.out:
        return
    directory = Path(options.out)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "results.json").unlink(missing_ok=True)
        (directory / "rows.csv").touch()
    except OSError as error:
        cause = f"--kv-out: cannot write to {options.out}: {error.strerror}"
        raise Fail(cause, "name a directory that can be made and written to") from None


def write(results: dict[str, Any], collector: Collector, options: Options) -> None:
    """Write results.json, rows.csv, one .hgrm per kind, response.hlog and text.html where --kv-out asks for them."""
    if not options.out:
        return
    directory = Path(options.out)
    (directory / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    with (directory / "rows.csv").open("w", newline="") as out:
        rows = results["rows"]
        writer = csv.DictWriter(out, fieldnames=list(rows[0]) if rows else ["second"])
        writer.writeheader()
        writer.writerows(rows)
    for kind in KINDS:
        (directory / f"{kind}.hgrm").write_text(hdr_log.hgrm(collector.whole.together(kind)))
    with (directory / "response.hlog").open("w") as out:
        hdr_log.write_log(out, results["environment"]["started_at_s"], collector.log)
    (directory / "report.html").write_text(run_page.render(results, _percentiles(collector)))


def _percentiles(collector: Collector) -> dict[str, Curve]:
    whole = {kind: collector.whole.together(kind) for kind in KINDS}
    return {
        kind: [(percent, value_us) for percent, value_us, _ in hdr_log.distribution(histogram)]
        for kind, histogram in whole.items()
        if histogram.counts and (kind != SERVICE or histogram.counts != whole[RESPONSE].counts)
    }
