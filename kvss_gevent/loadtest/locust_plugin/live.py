"""Prints a line every second during a run: rate, percentiles, backlog, failures, and the verdict so far."""

from typing import Any, Protocol, TextIO

import gevent

from kvss_gevent.loadtest.engine.recorder import RESPONSE
from kvss_gevent.loadtest.load_options import Options
from kvss_gevent.loadtest.report import results
from kvss_gevent.loadtest.report.collector import Collector
from kvss_gevent.loadtest.report.trust import trusted

_HEAD = "  second  answered/s    p50 us    p99 us  p99.9 us  backlog  failed  verdict so far"
_LINES_A_HEAD = 20


class LiveSource(Protocol):
    """What is shown. The collector is another one after a reset of the statistics."""

    collector: Collector
    options: Options
    resets: int


class LiveLines:
    """Prints lines to a terminal; with `--kv-live on` also to a file or pipe."""

    def __init__(self, shown: Any, out: TextIO) -> None:
        self._shown: LiveSource = shown
        self._out = out
        self._printed = 0

    def show(self) -> None:
        """Print a line every second until killed."""
        options = self._shown.options
        if options.live == "off" or (options.live == "auto" and not self._out.isatty()):
            return
        while True:
            gevent.sleep(1)
            if line := self.line():
                if self._printed % _LINES_A_HEAD == 0:
                    print(_HEAD, file=self._out)
                self._printed += 1
                print(line, file=self._out, flush=True)

    def line(self) -> str:
        """Return the line about the last complete second; "" before there is one."""
        collector = self._shown.collector
        intervals = collector.intervals()
        if len(intervals) < 2:
            return ""
        last = intervals[-2]
        p50_us, p99_us, p99_9_us = collector.recent(2).together(RESPONSE).percentiles((50, 99, 99.9))
        findings = results.provisional(collector, self._shown.options.open_loop, self._shown.resets)
        doubts = [finding.text for finding in findings if not finding.ok]
        verdict = "ok" if trusted(findings) else f"NOT {doubts[0]}"
        failed = collector.whole.failed + collector.whole.connect_failed
        return (
            f"{last.second + 1:>8}{last.answered:>12,}{p50_us:>10,}{p99_us:>10,}{p99_9_us:>10,}"
            f"{collector.backlog:>9,}{failed:>8,}  {verdict}"
        )
