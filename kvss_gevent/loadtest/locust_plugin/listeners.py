"""Connects the load tester with Locust's events when this module is imported."""

import atexit
import signal
import sys
from itertools import count
from typing import Any

import gevent
from locust import events
from locust.runners import WorkerRunner

from kvss_gevent.loadtest import load_options as options
from kvss_gevent.loadtest.engine.load_run import Run
from kvss_gevent.loadtest.locust_plugin import statistics, web_tab, worker_admission
from kvss_gevent.loadtest.locust_plugin.run_phases import Coordinator
from kvss_gevent.loadtest.locust_plugin.worker import Worker
from kvss_gevent.settings.fail import Fail


def run_of(environment: Any) -> Run:
    """Return the run of this environment's users. Raises RuntimeError if there is no run."""
    run = environment.kvss.run
    if run is None:
        raise RuntimeError("a KvssUser needs a run: start it with locust")
    return run  # type: ignore[no-any-return]


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def add_options(parser: Any, **_: Any) -> None:
    """Add --kv-*, and let Locust listen on loopback. Locust forks its workers afterwards."""
    options.add_arguments(parser)
    gevent.spawn(worker_admission.end_without_parent)


def _end_once_on_ctrl_c() -> None:
    """Let the first Ctrl-C end the process in good order, and the ones that follow do nothing.

    Python raises KeyboardInterrupt wherever it is, here in any greenlet, such as the one that delivers the last counts.
    When the interpreter ends it removes every handler but "ignore"; one more Ctrl-C would then kill the process.
    """
    pressed = count()

    def interrupt() -> None:
        if next(pressed) == 0:
            gevent.get_hub().handle_system_error(KeyboardInterrupt, KeyboardInterrupt())

    watcher = gevent.signal_handler(signal.SIGINT, interrupt)

    def ignore() -> None:
        watcher.cancel()  # first: libev puts the default back when its watcher goes
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    atexit.register(ignore)


@events.init.add_listener  # type: ignore[untyped-decorator]
def start(environment: Any, runner: Any, web_ui: Any, **_: Any) -> None:
    """Make this process's side of the runs. Wrong options and a missing server end the process with a message."""
    statistics.install()
    _end_once_on_ctrl_c()
    try:
        if isinstance(runner, WorkerRunner):
            environment.kvss = Worker(environment, runner)
        else:
            environment.kvss = Coordinator(environment, runner, web_ui)
            if web_ui is not None:
                web_tab.install(web_ui, environment.kvss)
    except Fail as fail:
        fail.show("kvss load")
        sys.exit(fail.code)
