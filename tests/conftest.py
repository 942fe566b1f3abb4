"""What every run of the tests shares: long tests are left out, and only those that depend on time are run again."""

import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

import gevent
import pytest

from kvss_gevent.settings.log import BoundedHandler
from kvss_gevent.stores.remote.greenlets import Greenlets
from kvss_gevent.stores.remote.runtimes import Runtime, Threads

TAKES_LONG = "takes long: `make test-full` runs it"
RERUNS = 2
LONG_LIMIT_S = 300
"""Of a test that takes long; pyproject.toml has the limit of the others."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="run the tests that take long, too")


def pytest_configure() -> None:
    # In the background of a shell without job control SIGINT is ignored, and so it would be in all servers and
    # commands that tests start and interrupt.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Some containers forbid bytecode files. Without them each of the hundreds of processes that tests start compiles
    # all that it imports: 0.12 s of the 0.45 s of CPU that the start of a server takes.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False


def pytest_collection_modifyitems(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("full"):
            if not config.getoption("--full"):
                item.add_marker(pytest.mark.skip(reason=TAKES_LONG))
            if not item.get_closest_marker("timeout"):
                item.add_marker(pytest.mark.timeout(LONG_LIMIT_S))
        if item.get_closest_marker("timing"):
            item.add_marker(pytest.mark.flaky(reruns=RERUNS))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call() -> None:
    # Outside of gevent's loop, some timers count from its last turn: joinall's and spawn_later's do. Other tests may
    # have run it minutes ago, and a timeout would be over at once.
    gevent.get_hub().loop.update_now()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    # The log of a command that a test has run in this process would take what other tests log, and tell it at the end.
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, BoundedHandler):
            root.removeHandler(handler)


@pytest.fixture(params=[Threads, Greenlets])
def runtime(request: pytest.FixtureRequest) -> Runtime:
    """What waits for a store on servers: each test runs with threads, and with greenlets."""
    made: Runtime = request.param()
    return made


def pytest_terminal_summary(terminalreporter: Any) -> None:
    say = terminalreporter.write_line
    long = [report for report in terminalreporter.getreports("skipped") if TAKES_LONG in str(report.longrepr)]
    again = [report.nodeid for report in terminalreporter.getreports("rerun")]
    if long:
        say(f"left out: {len(long)} tests that take long; `make test-full` runs them")
    if again:
        say(f"run again: {len(again)} tests that depend on time and had failed")
        for name in again:
            say(f"  {name}")
