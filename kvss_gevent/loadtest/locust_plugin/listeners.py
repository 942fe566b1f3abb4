"""Ties the load tester to Locust's events; importing it is enough. What happens at each event is for campaign.py."""

import sys
from typing import Any

from locust import events

from kvss_gevent.loadtest import options
from kvss_gevent.loadtest.engine.run import Run
from kvss_gevent.loadtest.locust_plugin import statistics
from kvss_gevent.loadtest.locust_plugin.master import Campaign
from kvss_gevent.settings.fail import Fail


def run_of(environment: Any) -> Run:
    """Return the run that a user of this environment takes part in. Raises RuntimeError outside of a run."""
    run = environment.kvss.run
    if run is None:
        raise RuntimeError("a KvssUser needs a run: start it with locust")
    return run  # type: ignore[no-any-return]


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def add_options(parser: Any, **_: Any) -> None:
    """Add --kv-* and put Locust's listeners on loopback."""
    options.add_arguments(parser)


@events.init.add_listener  # type: ignore[untyped-decorator]
def start(environment: Any, runner: Any, web_ui: Any, **_: Any) -> None:
    """Make the campaign of this environment; bad options and a missing server end the process with one clear line."""
    statistics.install()
    try:
        environment.kvss = Campaign(environment, runner, web_ui)
    except Fail as fail:
        print(f"kvss load: {fail.cause}\n  {fail.remedy}", file=sys.stderr, flush=True)
        sys.exit(fail.code)
