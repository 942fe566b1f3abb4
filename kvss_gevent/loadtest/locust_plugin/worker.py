"""A worker process's side of a run: what the master tells it to do, and what it tells. The run itself is for run.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gevent

from kvss_gevent.loadtest.locust_plugin import statistics

if TYPE_CHECKING:
    from kvss_gevent.loadtest.engine.messages import Update
    from kvss_gevent.loadtest.engine.run import Run
    from kvss_gevent.loadtest.locust_plugin.master import Campaign


class Worker:
    """Answers the master's messages; kvss_update and kvss_done go back."""

    def __init__(self, campaign: Campaign, runner: Any) -> None:
        self._campaign = campaign
        self._runner = runner
        runner.register_message("kvss_window", self.on_window)
        runner.register_message("kvss_stop", self.on_stop)
        runner.register_message("kvss_reset", self.on_reset)

    def deliver(self, update: Update) -> None:
        """Tell the master, and this process's part of Locust's own statistics."""
        statistics.add(self._runner.environment.stats, update.part)
        self._runner.send_message("kvss_update", update.pack())

    def on_window(self, msg: Any, **_: Any) -> None:
        """Warm up, measure and drain, then tell."""
        assert self._campaign.run is not None
        gevent.spawn(self._measure, self._campaign.run, msg.data)

    def _measure(self, run: Run, window: dict[str, float]) -> None:
        self._campaign.measure(run, **window)
        self._tell_done(run)

    def on_stop(self, **_: Any) -> None:
        """The master ends the run early."""
        self.close()

    def on_reset(self, msg: Any, **_: Any) -> None:
        """The master has reset the statistics: what Locust has counted here and not yet reported goes with ours."""
        self._runner.environment.stats.reset_all()
        if self._campaign.run is not None:
            self._campaign.run.reset(msg.data)

    def close(self) -> None:
        """End the run here, unless it has ended, and tell."""
        run = self._campaign.run
        if run is not None and not run.closed:
            run.close()
            self._tell_done(run)

    def _tell_done(self, run: Run) -> None:
        self._runner.send_message("kvss_done", {**run.summary(), "drain_s": self._campaign.drain_s})
