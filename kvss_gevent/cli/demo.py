"""`kvss demo`: starts its own server on a free port and plays the demo's scenes against it."""

import argparse
from collections.abc import Iterator

from kvss_gevent.client.terminal.demo_script import play
from kvss_gevent.measure.launch import LaunchError, kvss, launched
from kvss_gevent.settings.fail import Exit, Fail


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `kvss demo`: it needs none."""
    parser.epilog = """examples:
  kvss demo                  requests and replies, as they are sent
  kvss demo | less           page by page

exit codes: 0 shown, 2 wrong usage, 3 the server could not be started or did not answer"""


def run(_: argparse.Namespace) -> int:
    """Play the demo; returns the exit code."""
    try:
        with launched(kvss("--log-level", "error")) as server:
            print(
                f"The demo's server listens on 127.0.0.1:{server.port}. "
                "-> is sent to it, <- is its reply, \\n is the line feed."
            )
            for line in _lines(server.port):
                print(line, flush=True)
    except LaunchError as why:
        raise Fail(f"the demo's server did not start: {why}", "`kvss serve` says more.", Exit.UNREACHABLE) from None
    return Exit.OK


def _lines(port: int) -> Iterator[str]:
    # Only an OSError of the server is caught here, and none of our own output.
    try:
        yield from play("127.0.0.1", port)
    except OSError as error:
        raise Fail(f"the demo's server does not answer: {error}", "Run it again.", Exit.UNREACHABLE) from None
