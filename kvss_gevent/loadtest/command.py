"""The command line that runs Locust with the users for KV/1.0."""

import sys
from collections.abc import Sequence
from pathlib import Path

_PACKAGE = Path(__file__).parent


def locustfile() -> Path:
    """Return the file with the users: beside this one in an installed package, in `loadtest/` in a checkout."""
    installed = _PACKAGE / "kvss_locust.py"
    return installed if installed.exists() else _PACKAGE.parents[1] / "loadtest" / "kvss_locust.py"


def locust_command(options: Sequence[str]) -> list[str]:
    """Return the command; options that name a locustfile of their own keep it."""
    named = any(option.startswith(("-f", "--locustfile")) for option in options)
    users = [] if named else ["-f", str(locustfile())]
    return [sys.executable, "-m", "kvss_gevent.loadtest.start_locust", *users, *options]
