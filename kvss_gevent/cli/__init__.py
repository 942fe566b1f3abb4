"""The `kvss` command: picks the subcommand, turns faults into messages and exit codes. Each subcommand has a file here.

A command module has add_arguments(parser) and run(args), which returns the exit code or raises Fail. Only
the module of the command in use is imported, so that a client does not load the server.

May import: protocol, settings, stores, core, server, models, client, measure, conformance, loadtest, compare, trace,
wire_tools, pages.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from kvss_gevent.settings.fail import Fail

COMMANDS = {
    "serve": "run the server",
    "models": "compare the concurrency models that serve offers",
    "client": "talk to a server: interactive, from a script, or one command",
    "demo": "watch the protocol at work on a server of its own",
    "bench": "load a server as hard as one process can",
    "conform": "grade any KV/1.0 server",
    "load": "test a server under load, with Locust",
    "user": "add, change, list and remove the users of a server",
    "tls": "make certificates for a classroom",
    "show": "draw who waits for whom in each concurrency model",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one `kvss` command; returns its exit code, 130 where Ctrl-C ended it."""
    args = sys.argv[1:] if argv is None else list(argv)
    try:
        return _dispatch(args)
    except Fail as fail:
        fail.show()
        return fail.code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output left (kvss ... | head): not an error, but the interpreter's own flush would fail too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _dispatch(args: list[str]) -> int:
    from kvss_gevent import __version__

    top = argparse.ArgumentParser(
        prog="kvss", description="KV/1.0: a key-value server on gevent, and what goes with it."
    )
    top.add_argument("--version", action="version", version=f"kvss {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    chosen = next((word for word in args if not word.startswith("-")), None)
    for name, summary in COMMANDS.items():
        parser = commands.add_parser(
            name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", allow_abbrev=False
        )
        if name == chosen:
            module = import_module(f"kvss_gevent.cli.{name}")
            parser.formatter_class = argparse.RawDescriptionHelpFormatter
            module.add_arguments(parser)
            parser.set_defaults(run=module.run)
    parsed = top.parse_args(args)
    code: int = parsed.run(parsed)
    return code
