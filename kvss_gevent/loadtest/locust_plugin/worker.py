"""A Locust worker process's side of a run: it follows the messages of the coordinator, and sends its counts."""

import time
from math import inf
from typing import Any

import gevent

from kvss_gevent.loadtest.engine.clock import clock
from kvss_gevent.loadtest.engine.load_run import Run
from kvss_gevent.loadtest.engine.messages import RunPlan, Update, Window
from kvss_gevent.loadtest.load_options import read_options, texts_of
from kvss_gevent.loadtest.locust_plugin import statistics, user_classes
from kvss_gevent.loadtest.locust_plugin import worker_admission as admission

_MASTER_GONE_S = 10.0
"""A master that was silent for so long is gone; Locust's master sends a heartbeat every second."""


class Worker:
    """The runs of one worker process. It answers the coordinator's messages with kvss_update and kvss_done."""

    def __init__(self, environment: Any, runner: Any) -> None:
        self.run: Run | None = None
        self._environment = environment
        self._runner = runner
        user_classes.leave_out_unnamed(environment)
        environment.events.test_start.add_listener(self.on_test_start)
        environment.events.test_stop.add_listener(self.close)
        environment.events.quitting.add_listener(self.on_quitting)
        runner.register_message("kvss_window", self.on_window)
        runner.register_message("kvss_stop", self.close)
        runner.register_message("kvss_reset", self.on_reset)
        runner.register_message("kvss_shares", self.on_shares)
        runner.register_message("kvss_refused", self.on_refused)
        self._drain_s, self._ends_at = 0.0, inf
        runner.send_message("kvss_join", admission.application())
        gevent.spawn(self._watch_master)

    def on_test_start(self, environment: Any, **_: Any) -> None:
        """Set up what the users of this process share; the users start afterwards."""
        options = read_options(texts_of(environment.parsed_options))
        plan = RunPlan.from_plain(environment.parsed_options.kv_plan)
        self.run = Run(options, plan, self._runner.client_id, self.deliver)
        self._drain_s, self._ends_at = 0.0, inf

    def deliver(self, update: Update) -> None:
        """Send an update to the coordinator, and add it to Locust's own statistics of this process."""
        statistics.add(self._environment.stats, update.tally, self._ends_at)
        self._runner.send_message("kvss_update", update.pack())

    def on_window(self, msg: Any, **_: Any) -> None:
        """Warm up, measure and drain, then send the last counts."""
        assert self.run is not None
        window = Window(**msg.data)
        begin = window.begin_here()
        in_s = max(begin - clock(), 0)
        begins_at = time.time() + in_s
        self._ends_at = begins_at + window.measure_s
        gevent.spawn_later(in_s, statistics.begin, self._environment.stats, begins_at)
        gevent.spawn(self._measure, self.run, begin, window.measure_s)

    def _measure(self, run: Run, begin: float, measure_s: float) -> None:
        self._drain_s = run.measure(begin, measure_s, lambda: False)
        self._tell_done(run)

    def on_reset(self, msg: Any, **_: Any) -> None:
        """Reset the counts of this process, also Locust's own counts that were not reported yet."""
        self._environment.stats.reset_all()
        if self.run is not None:
            self.run.reset(msg.data)

    def on_shares(self, msg: Any, **_: Any) -> None:
        """Set this process's share of the rate, after users were distributed again."""
        if self.run is not None:
            self.run.set_share(msg.data.get(self._runner.client_id, 0.0))

    def on_refused(self, msg: Any, **_: Any) -> None:
        """End this process, because the master has refused it."""
        gevent.spawn(admission.leave, self._runner, msg.data)

    def _watch_master(self) -> None:
        """End this process when its master is gone, so that it does not continue to load the server."""
        while True:
            gevent.sleep(1)
            heard_at = self._runner.last_heartbeat_timestamp
            if heard_at and time.time() - heard_at > _MASTER_GONE_S:
                self.close()
                admission.leave(self._runner, "is gone: this worker ends")
                return

    def close(self, **_: Any) -> None:
        """End the run in this process, unless it has ended, and send the last counts."""
        run = self.run
        if run is not None and not run.closed:
            run.close()
            self._tell_done(run)

    def on_quitting(self, **_: Any) -> None:
        """Send the last counts before the process ends, maybe by Ctrl-C."""
        self.close()
        # Without this, Locust's own statistics of the last seconds are lost if this process itself got the Ctrl-C.
        self._runner._send_stats()

    def _tell_done(self, run: Run) -> None:
        self._runner.send_message("kvss_done", {**run.summary(), "drain_s": self._drain_s})
