"""The phases of a run: storing keys, ramp-up, warm-up, measured window, drain, results.

Locust's master controls them, or the single process.
"""

from __future__ import annotations

import logging
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from math import inf
from typing import Any

import gevent
from locust.runners import MasterRunner

from kvss_gevent.loadtest.engine import preflight
from kvss_gevent.loadtest.engine.clock import clock
from kvss_gevent.loadtest.engine.load_run import Run
from kvss_gevent.loadtest.engine.messages import RunPlan, Update, Window, boot_id
from kvss_gevent.loadtest.load_options import Options, read_options, texts_of
from kvss_gevent.loadtest.locust_plugin import server_watch, statistics, user_classes
from kvss_gevent.loadtest.locust_plugin.live import LiveLines
from kvss_gevent.loadtest.locust_plugin.run_state import RunState
from kvss_gevent.loadtest.locust_plugin.server_watch import ServerWatch
from kvss_gevent.loadtest.locust_plugin.workers import SLACK_S, Workers
from kvss_gevent.loadtest.report import files, results, thresholds
from kvss_gevent.loadtest.report.collector import Collector
from kvss_gevent.settings.fail import Exit, Fail
from kvss_gevent.settings.streams import OutputLost

logger = logging.getLogger(__name__)

_LONGEST_S = 7 * 86400.0


def read_environment(environment: Any) -> Options:
    """Return the options of a Locust environment. Raises Fail."""
    try:
        return read_options(texts_of(environment.parsed_options))
    except ValueError as error:
        raise Fail(str(error), "`kvss load run --help` lists the --kv options with their defaults.") from None


class Coordinator:
    """Controls the runs of one Locust environment, one after the other, in the master or in the single process."""

    def __init__(self, environment: Any, runner: Any, web_ui: Any) -> None:
        """Connect to Locust's events. Raises Fail for wrong options and, without a web page, for a missing server."""
        self._workers: Workers | None = None
        if isinstance(runner, MasterRunner):
            # This comes first: workers may connect during any wait.
            self._workers = Workers(runner, bool(environment.parsed_options.processes), one_run=web_ui is None)
            runner.register_message("kvss_update", self.on_update)
        self.environment = environment
        self.runner = runner
        self.run: Run | None = None
        self.collector = Collector()
        self.options: Options = read_environment(environment)
        self.results: dict[str, Any] | None = None
        self.finishing = True  # There is no run to finish yet.
        self.measure_s = inf
        self.resets = 0
        self._guard_s = 0.0
        self._state = RunState()
        user_classes.leave_out_unnamed(environment)
        user_classes.check_tasks(environment, self.options.open_loop)
        self._take_run_time(environment.parsed_options)
        server_watch.check(self.options.server_pid)
        files.prepare(self.options)
        if web_ui is None:
            preflight.check_server(preflight.read_address(self.host()), self.options)
        events = environment.events
        events.test_start.add_listener(self.on_test_start)
        events.test_stop.add_listener(self.on_test_stop)
        events.quitting.add_listener(self.on_quitting)
        events.quit.add_listener(self.on_quit)
        events.spawning_complete.add_listener(self.on_spawned)
        events.reset_stats.add_listener(self.on_reset)
        events.worker_report.add_listener(self.on_worker_report)

    def host(self) -> str | None:
        """Return the server's address as given on the command line, in the web form, or by the user classes."""
        return user_classes.host_of(self.environment)

    def _take_run_time(self, parsed: Any) -> None:
        """Use -t for the measured window only. Locust's timer, which includes all phases, becomes a long guard."""
        if self.options.shape is not None:
            parsed.run_time = self.options.shape.total_s
        if parsed.run_time and parsed.run_time != self._guard_s:
            self.measure_s = float(parsed.run_time)
            ramp_s = (parsed.num_users or 1) / (parsed.spawn_rate or 1)
            self._guard_s = int(self.measure_s + self.options.warmup + self.options.drain + ramp_s + 120)
            parsed.run_time = self._guard_s

    def on_test_start(self, environment: Any, **_: Any) -> None:
        """Store the keys and set up what the users share; the users start afterwards."""
        self.options = options = read_environment(environment)
        self.finishing = False
        self._state = RunState()
        self.results = None
        self.resets = 0
        self.collector = Collector()
        if environment.web_ui is not None:
            environment.web_ui._cancel_run_time_timer()
            self._take_run_time(environment.parsed_options)
        plan = self._plan(options)
        environment.parsed_options.kv_plan = asdict(plan)
        if self._workers is None:
            self.run = Run(options, plan, "local", self._deliver_local)

    def _plan(self, options: Options) -> RunPlan:
        token = preflight.new_token()
        classes = self.environment.user_classes
        loaded = options.preload and any(getattr(user, "uses_keys", False) for user in classes)
        if loaded:
            address = preflight.read_address(self.host())
            sizes = next((user.sizes(options) for user in classes if hasattr(user, "sizes")), options.value_size)
            try:
                self._state.load_s = preflight.load_keys(address, options, sizes, token)
            except Fail as fail:
                # Locust continues after an exception in a listener, so the run is ended in another way.
                self._state.fatal = fail
                loaded = False
                gevent.spawn_later(0.1, self._end)
        workers = self._workers.begin() if self._workers is not None else ()
        return RunPlan(token, workers, max(self.runner.target_user_count, 1), loaded)

    def on_spawned(self, **_: Any) -> None:
        """Begin the warm-up when all users have started. If their number changes later, the rate stays the same.

        With --reset-stats Locust has just reset its own numbers; it does so each time users are added.
        """
        if self.finishing:
            return
        if self._workers is not None:
            self._workers.share_rate()
        if self._state.phases is None:
            self._state.users = self.runner.target_user_count
            self._state.phases = gevent.spawn(self._run_phases)
            return
        self._state.users_changed |= self.runner.target_user_count != self._state.users
        if self.environment.reset_stats:
            self.on_reset()

    def on_reset(self, **_: Any) -> None:
        """Restart the measured window and drop its counts, as Locust does with its own numbers.

        Before the window there are no counts to drop. In the drain the counts are kept, because no new ones would
        follow. After the run, when its files are written, only the web page drops its results.
        """
        if self.finishing:
            self.collector, self.results = Collector(), None
        begins, ends = self._state.window
        if self.finishing or not begins <= clock() < ends:
            return
        self.resets += 1
        self.collector = Collector()
        self._state.started_at = time.time()
        self._state.server.restart()
        if self._workers is not None:
            self._workers.reset(self.resets)
        elif self.run is not None:
            self.run.reset(self.resets)

    def _run_phases(self) -> None:
        """Run warm-up, measured window and drain, and end the run."""
        options = self.options
        begins = clock() + options.warmup
        measure_s = min(self.measure_s, _LONGEST_S)
        self._state.server = ServerWatch(options.server_pid)
        self._state.server.begin_in(options.warmup)
        self._state.started_at = time.time() + options.warmup
        # A worker whose window has ended must not get a reset; a message takes less than this margin.
        self._state.window = (begins, begins + measure_s - (0.5 if self._workers is not None else 0.0))
        logger.info("Warm-up %.1f s, then the measured window", options.warmup)
        gevent.spawn_later(options.warmup, statistics.begin, self.environment.stats, self._state.started_at)
        live = gevent.spawn_later(options.warmup, LiveLines(self, sys.stderr).show)
        try:
            if self._workers is not None:
                self._workers.open_window(asdict(Window(begins, options.warmup, measure_s, boot_id())))
                self._await(self._workers, begins + measure_s + options.drain + SLACK_S)
            elif self.run is not None:
                self._state.drain_s = self.run.measure(begins, measure_s, self._is_dead)
        finally:
            live.kill(block=False)
        self._end()

    def _end(self) -> None:
        """Finish the run, then end the process or wait for the next run from the web page."""
        self._finish()
        web_ui, parsed = self.environment.web_ui, self.environment.parsed_options
        if web_ui is None:
            self.runner.quit()
            return
        with suppress(OutputLost):  # the page has the results
            files.show(self.results or {}, sys.stdout)
        if self._state.fatal:
            self._state.fatal.show("kvss load")
        self.runner.stop()
        if parsed.autostart and parsed.autoquit != -1:
            gevent.sleep(parsed.autoquit)
            self.runner.quit()
            web_ui.stop()

    def _await(self, workers: Workers, ends: float) -> None:
        while clock() < ends and workers.lost and not self._is_dead():
            if clock() > self._state.window[1] and not workers.owing:
                break
            gevent.sleep(0.05)

    def _is_dead(self) -> bool:
        return self._state.give_up(self.collector, self.options, self.measure_s)

    def _deliver_local(self, update: Update) -> None:
        self.collector.add("local", update)
        statistics.add(self.environment.stats, update.tally, self._state.started_at + self.measure_s)

    def on_worker_report(self, **_: Any) -> None:
        """Master: correct Locust's start time after it merged a worker's statistics, which begin before the window."""
        statistics.begin(self.environment.stats, self._state.started_at)

    def on_update(self, msg: Any, **_: Any) -> None:
        """Master: add a worker's counts, unless they are from before a reset or the worker is not in the run."""
        update = Update.unpack(msg.data)
        if update.reset == self.resets and self._workers and msg.node_id in self._workers.present:
            self.collector.add(msg.node_id, update)

    def on_test_stop(self, **_: Any) -> None:
        """Finish the run if the users were stopped before its end."""
        if self._workers is None:
            self._finish()

    def on_quitting(self, **_: Any) -> None:
        """Before the process ends, maybe by Ctrl-C, get the workers' last counts and write the results."""
        self._finish()
        if self._state.fatal:
            self.environment.process_exit_code = int(Exit.UNREACHABLE)
        elif self._is_spoilt:
            self.environment.process_exit_code = int(Exit.FAILED)

    @property
    def _is_spoilt(self) -> bool:
        """Whether the run lost a worker, missed a requirement, or has requests that are not accounted for."""
        if self.results is None:
            return False
        met = all(one["met"] for one in self.results["requirements"])
        return not met or bool(self._workers and self._workers.lost) or bool(self.results["requests"]["unaccounted"])

    def _finish(self) -> None:
        if self.finishing:
            return
        self.finishing = True
        if self.run is not None:
            self.run.close()
        if self._workers is not None:
            self._workers.gather()
        self.results = results.build(self.collector, self._conditions())
        judged = [asdict(thresholds.judge(one, self.results)) for one in self.options.require]
        self.results["requirements"] = judged
        files.write(self.results, self.collector, self.options)

    def on_quit(self, **_: Any) -> None:
        """Print the report last, below Locust's tables; with --json on stderr, so that stdout has only JSON."""
        if self.results is not None and self.environment.web_ui is None:
            try:
                files.show(self.results, sys.stderr if self.environment.parsed_options.json else sys.stdout)
            except OutputLost as lost:
                sys.exit(lost.show("kvss load"))
            if self._state.fatal:
                self._state.fatal.show("kvss load")

    def _conditions(self) -> results.Conditions:
        processes = dict(self._workers.done) if self._workers is not None else {}
        if self.run is not None:
            processes["local"] = {**self.run.summary(), "drain_s": self._state.drain_s}
        return results.Conditions(
            host=self.host() or "",
            open_loop=self.options.open_loop,
            users=self.runner.target_user_count,
            user_classes=tuple(user.__name__ for user in self.environment.user_classes),
            started_at=self._state.started_at,
            load_s=self._state.load_s,
            warmup_s=self.options.warmup,
            planned_s=self.measure_s,
            options=texts_of(self.environment.parsed_options),
            processes=processes,
            server=self._state.server.usage(),
            ended_because=self._state.fatal.cause if self._state.fatal else self._state.hopeless,
            resets=self.resets,
            workers_lost=self._workers.lost if self._workers is not None else 0,
            users_changed=self._state.users_changed,
        )
