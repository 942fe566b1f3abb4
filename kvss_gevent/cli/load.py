"""`kvss load`: runs the load tester, from a checkout or an installed package. Locust's own options work too."""

import os
import sys
from argparse import REMAINDER, ArgumentParser, Namespace
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from kvss_gevent.cli.parser import Parser, add_subcommand
from kvss_gevent.settings.fail import Exit, Fail, install

_RUN = "run"
_WORDS = {
    "search": (
        "kvss_gevent.loadtest.search",
        "find the highest rate that meets a requirement such as p99<5ms",
    ),
    "repeat": ("kvss_gevent.loadtest.repeat", "make the same run several times, and show intervals over the runs"),
    "diff": ("kvss_gevent.loadtest.report.diff", "compare two runs, or two sets of repeated runs"),
    "truth": (
        "kvss_gevent.loadtest.truth.table",
        "run the load tester against servers with known behaviour, and compare its report with their logs",
    ),
}
_EXAMPLES = """\
examples:
  kvss load -H 127.0.0.1:5050
      the web page, on 127.0.0.1:8089
  kvss load -H 127.0.0.1:5050 --headless -u 10 -r 100 -t 10s
      ten seconds without a page
  kvss load run --help
      all options, also those of Locust
"""
_CODES = """
exit codes:
  0  done
  1  a request failed, a requirement was not met, or a worker process was lost
  2  wrong usage, or a port that is taken
  3  no KV/1.0 server at the address, it stopped, the report is lost, or Locust
     is not installed
  130  Ctrl-C before the run began
"""


class _OwnOptions:
    """Declares the load tester's own options, without the settings that only Locust's parser understands."""

    def __init__(self, parser: ArgumentParser) -> None:
        self._parser = parser

    def add_argument(self, *names: str, **settings: Any) -> Any:
        """Add one option."""
        del settings["env_var"], settings["include_in_web_ui"]
        return self._parser.add_argument(*names, **settings)

    def set_defaults(self, **_: Any) -> None:
        """Do nothing: Locust sets its own defaults."""


def add_arguments(parser: Parser) -> None:
    """Declare the subcommands. `run` is the default one, and passes all options to Locust."""
    parser.epilog = f"Without COMMAND, `{_RUN}` is used.\n\n{_EXAMPLES}  kvss load search --help\n{_CODES}"
    parser.default_word = _RUN
    words = parser.add_subparsers(metavar="COMMAND", dest="word", required=True)
    run_parser = add_subcommand(
        words, _RUN, "run Locust with the users for KV/1.0; all options of Locust work", _EXAMPLES + _CODES
    )
    _declare_run(run_parser)
    for word, (module, summary) in _WORDS.items():
        import_module(module).add_arguments(add_subcommand(words, word, summary))


def _declare_run(parser: Parser) -> None:
    from kvss_gevent.loadtest import load_options as options

    options.add_arguments(_OwnOptions(parser))
    parser.add_argument("words", nargs=REMAINDER, metavar="OPTION", help="options of Locust")
    parser.prefix_chars = ""  # no word is an option here, not even --help: Locust reads all of them


def run(args: Namespace) -> int:  # noqa: RET503 - execv does not return
    """Run a subcommand; returns the exit code. `run` does not return: Locust replaces this process."""
    if find_spec("locust") is None:
        raise Fail("the load tester needs Locust", install("load"), Exit.UNREACHABLE)
    if args.word in _WORDS:
        code: int = import_module(_WORDS[args.word][0]).run(args)
        return code
    from kvss_gevent.loadtest.command import locust_command

    command = locust_command(args.words)
    sys.stdout.flush()
    os.execv(command[0], command)
