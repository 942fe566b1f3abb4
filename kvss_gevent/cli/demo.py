"""`kvss demo`: starts its own server on a free port and plays the demo's scenes against it."""

import argparse
import os
import select
import subprocess
import sys
from collections.abc import Iterator

from kvss_gevent.client.terminal.demo_script import play
from kvss_gevent.measure.launch import end
from kvss_gevent.settings.fail import Exit, Fail
from kvss_gevent.settings.variables import PREFIX

START_LIMIT_S = 20.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `kvss demo`: it needs none."""
    parser.epilog = """examples:
  kvss demo                  requests and replies, as they are sent
  kvss demo | less           page by page

exit codes: 0 shown, 2 wrong usage, 3 the server could not be started or did not answer"""


def run(_: argparse.Namespace) -> int:
    """Play the demo; returns the exit code."""
    command = [sys.executable, "-m", "kvss_gevent", "serve", "127.0.0.1:0", "--log-level", "error"]
    # Settings in the environment are for other servers; without them the demo is the same for everybody.
    environ = {name: text for name, text in os.environ.items() if not name.startswith(PREFIX)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ) as server:
        try:
            assert server.stdout is not None
            ready = select.select([server.stdout], [], [], START_LIMIT_S)[0]
            address = server.stdout.readline().rpartition(" ")[2].strip() if ready else ""
            if not address:
                raise Fail("the demo's server did not start", "The server's message above says why.", Exit.UNREACHABLE)
            print(f"The demo's server listens on {address}. -> is sent to it, <- is its reply, \\n is the line feed.")
            for line in _lines(int(address.rpartition(":")[2])):
                print(line, flush=True)
        finally:
            end(server)
    return Exit.OK


def _lines(port: int) -> Iterator[str]:
    # Only an OSError of the server is caught here, and none of our own output.
    try:
        yield from play("127.0.0.1", port)
    except OSError as error:
        raise Fail(f"the demo's server does not answer: {error}", "Run it again.", Exit.UNREACHABLE) from None
