"""The `kvss` command: runs a subcommand, and turns errors into messages and exit codes. Each subcommand has a file.

A subcommand's module has add_arguments(parser) and run(args), which returns the exit code or raises Fail. Only the
module of the subcommand in use is imported, so that a client does not load the server.

May import: protocol, settings, stores, core, server, models, client, measure, conformance, grading, loadtest, compare,
trace, wire_tools, pages, top.
"""

import os
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from kvss_gevent.cli.parser import MISTYPED, Parser, add_subcommand, sentence
from kvss_gevent.settings import variables
from kvss_gevent.settings.fail import Exit, Fail, escaped, explained
from kvss_gevent.settings.streams import OutputLost, prepare

COMMANDS = {
    "serve": "run the server",
    "models": "list the concurrency models of `kvss serve`",
    "client": "talk to a server: interactive, from a script, or with one command",
    "demo": "show requests and replies of the protocol, with its own server",
    "top": "watch a running server: rates, times, workers, slow clients",
    "bench": "send as many requests to a server as one process can",
    "compare": "measure all concurrency models, and compare them in one report",
    "conform": "grade any KV/1.0 server",
    "grade": "grade a class: a folder of submissions",
    "load": "test a server under load, with Locust",
    "user": "add, change, list and remove the users of a server",
    "tap": "show or record the requests and replies between clients and a server",
    "wireshark": "install the Wireshark dissector for KV/1.0, and make captures for a lecture",
    "completions": "print a script with which a shell completes the words of kvss",
    "tls": "make certificates for a classroom",
    "show": "draw which client waits for which in each concurrency model",
}


INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one `kvss` command; returns its exit code, 130 if Ctrl-C ended it."""
    if argv is None:
        prepare()
        sys.unraisablehook = _keep_interrupts
        argv = sys.argv[1:]
    command = f"kvss {argv[0]}" if argv and argv[0] in COMMANDS else "kvss"
    try:
        try:
            code = _dispatch(list(argv))
            sys.stdout.flush()
        except SystemExit as done:  # argparse has printed a help
            code = int(done.code or 0)
            sys.stdout.flush()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except OutputLost as lost:
        code = lost.show(command)
    except Exception as error:
        fail = explained(error)
        if fail is None:
            raise
        fail.show(command)
        code = fail.code
    return code


def _keep_interrupts(unraisable: Any) -> None:
    """Raise Ctrl-C again, where Python only prints it: in a fork hook, such as that of logging, or in a finalizer."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt) and hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 0.01)
    else:
        sys.__unraisablehook__(unraisable)


def _dispatch(args: list[str]) -> int:
    if args[:1] == ["help"]:
        args = [*args[1:2], "--help"]
    if not args:
        raise Fail("a command is missing", "Give one of these:", usage=_help())
    name = args[0]
    if name in ("-h", "--help"):
        print(_help(), end="")
        return Exit.OK
    if name == "--version":
        from kvss_gevent import __version__

        print(f"kvss {__version__}")
        return Exit.OK
    if name not in COMMANDS:
        raise _unknown(name, args)
    parser, run = _command(name)
    parsed = parser.parse_args(args[1:])
    _warn_of_variables(os.environ)
    code: int = run(parsed)
    return code


def _warn_of_variables(environ: Mapping[str, str]) -> None:
    """Warn of KVSS_ variables that no command reads. This is no error: programs and versions share an environment."""
    of_load: Sequence[str] = ()
    if any(name.startswith("KVSS_LOAD_") for name in environ):
        from kvss_gevent.loadtest import load_options

        of_load = load_options.variables()
    for warning in variables.unread(environ, of_load):
        print(f"kvss: warning: {escaped(warning)}", file=sys.stderr)


def _command(name: str) -> tuple[Parser, Any]:
    """Return the parser and the run function of a command."""
    module = import_module(f"kvss_gevent.cli.{name}")
    parser = Parser(prog=f"kvss {name}", description=sentence(COMMANDS[name]))
    module.add_arguments(parser)
    return parser, module.run


def whole_parser() -> Parser:
    """Return one parser with all commands; completions, the manual and the reference are made from it."""
    parser = Parser(prog="kvss", description="KV/1.0: a key-value server on gevent, and tools for it.")
    parser.add_argument("--version", action="store_true", help="print the version")
    words = parser.add_subparsers(metavar="COMMAND")
    for name, summary in COMMANDS.items():
        import_module(f"kvss_gevent.cli.{name}").add_arguments(add_subcommand(words, name, summary))
    return parser


def _unknown(name: str, args: Iterable[str]) -> Fail:
    """Return the error for a first word that is not a command, with the usage of the most similar command."""
    own = get_close_matches(name, ("--help", "--version"), 1, MISTYPED)
    if own:
        return Fail(f"there is no command {name!r}", f"Did you mean `kvss {own[0]}`?")
    if name.startswith("-"):
        parser, _ = _command("serve")
        near = get_close_matches(name.partition("=")[0], parser._option_string_actions, 1)
        remedy = f"Did you mean `kvss serve {near[0]}`?" if near else "`kvss --help` lists the commands."
        return Fail(f"{name} comes before the command", remedy, usage=parser.format_usage() if near else _help())
    near = get_close_matches(name, COMMANDS, 1)
    if not near:
        return Fail(f"there is no command {name!r}", "Give one of these:", usage=_help())
    meant = " ".join([near[0], *list(args)[1:]])
    return Fail(
        f"there is no command {name!r}", f"Did you mean `kvss {meant}`?", usage=_command(near[0])[0].format_usage()
    )


def _help() -> str:
    lines = ["usage: kvss COMMAND [options]", "", "KV/1.0: a key-value server on gevent, and tools for it.", ""]
    lines += [f"  {name:<{WIDEST_NAME}}{summary}" for name, summary in COMMANDS.items()]
    lines += ["", "examples:", "  kvss serve", "  kvss client PUT name An", "  kvss help serve", ""]
    lines += ["`kvss COMMAND --help` says more. `kvss --version` prints the version.", ""]
    return "\n".join(lines)


WIDEST_NAME = max(map(len, COMMANDS)) + 2
