"""The command line that runs Locust with the users for KV/1.0."""

import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from kvss_gevent.settings.fail import Exit, Fail

HELP_SAYS = "`kvss load run --help` lists the options."
_TELLS = "kvss load: "
_PACKAGE = Path(__file__).parent


def locustfile() -> Path:
    """Return the file with the users: in this folder in an installed package, in `loadtest/` in a checkout."""
    installed = _PACKAGE / "kvss_locust.py"
    return installed if installed.exists() else _PACKAGE.parents[1] / "loadtest" / "kvss_locust.py"


def locust_command(options: Sequence[str]) -> list[str]:
    """Return the command. If the options name a locustfile, that one is used."""
    named = any(option.startswith(("-f", "--locustfile")) for option in options)
    users = [] if named else ["-f", str(locustfile())]
    return [sys.executable, "-m", "kvss_gevent.loadtest.start_locust", *users, *options]


def why_it_failed(done: "subprocess.CompletedProcess[str]") -> Fail:
    """Return the error that a run of this command printed; if it is not one of ours, the last line."""
    lines = [line for line in done.stderr.splitlines() if line.strip() and "/INFO/" not in line]
    code = done.returncode or Exit.FAILED
    for cause, remedy in pairwise(lines):
        if cause.startswith(_TELLS):
            return Fail(cause.removeprefix(_TELLS), remedy.strip(), code)
    return Fail(lines[-1] if lines else "the run left no results", HELP_SAYS, code)
