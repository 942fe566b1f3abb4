"""What is known of one run while it goes on, and when it is given up."""

import time
from dataclasses import dataclass, field
from math import inf
from typing import Any

from kvss_gevent.loadtest.load_options import Options
from kvss_gevent.loadtest.locust_plugin.server_watch import ServerWatch
from kvss_gevent.loadtest.report import thresholds
from kvss_gevent.loadtest.report.collector import Collector
from kvss_gevent.settings.fail import Fail


@dataclass(slots=True)
class RunState:
    """One run of the coordinator; each run begins with a new one.

    window: begin and end of the measured window, times of clock(). started_at: when it begins, a time of the day.
    users: their number at its begin. fatal: why the server is given up. hopeless: why a requirement is.
    """

    server: ServerWatch = field(default_factory=lambda: ServerWatch(0))
    started_at: float = field(default_factory=time.time)
    window: tuple[float, float] = (inf, inf)
    phases: Any = None
    load_s: float = 0.0
    drain_s: float = 0.0
    users: int = 0
    users_changed: bool = False
    fatal: Fail | None = None
    hopeless: str = ""

    def give_up(self, collector: Collector, options: Options, measure_s: float) -> bool:
        """Tell whether no server was reached for --kv-give-up seconds, or a requirement can no longer be met."""
        down = collector.down_s
        if down and min(down.values()) >= options.give_up:
            self.fatal = Fail(
                f"the server could not be reached for {options.give_up:g} s; the results so far are kept",
                "See the server's messages, or wait longer with --kv-give-up.",
            )
        planned = options.rates.arrivals_until(measure_s) if options.rates and measure_s < inf else 0
        for requirement in options.require:
            if why := thresholds.hopeless(requirement, collector, planned):
                self.hopeless = f"the run was ended: {requirement.text} can no longer be met, {why}"
        return bool(self.fatal or self.hopeless)
