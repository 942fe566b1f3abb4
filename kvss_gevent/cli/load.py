"""`kvss load`: the load tester, from a checkout or from an installed package. Locust's own options pass through."""

import os
import sys
from argparse import REMAINDER, ArgumentParser, Namespace
from importlib import import_module
from importlib.util import find_spec

from kvss_gevent.settings.fail import Exit, Fail

_WORDS = {
    "run": "run Locust with the users for KV/1.0; every option of Locust's and every --kv-* option may follow",
    "search": "find the highest rate at which a server keeps a promise such as p99<5ms",
    "repeat": "make the same run several times, and show intervals over the runs",
    "diff": "show two runs, or two sets of repeated runs, side by side",
    "truth": "run the load tester against servers whose truth is known, and compare",
}
_MODULES = {
    "search": "kvss_gevent.loadtest.search",
    "repeat": "kvss_gevent.loadtest.repeat",
    "diff": "kvss_gevent.loadtest.report.diff",
    "truth": "kvss_gevent.loadtest.truth.table",
}
_EPILOG = f"""\
first word (run, where it is none of these):
{chr(10).join(f"  {word:<8}{text}" for word, text in _WORDS.items())}

examples:
  kvss load -H 127.0.0.1:5050                                  the web page, on 127.0.0.1:8089
  kvss load -H 127.0.0.1:5050 --headless -u 10 -r 100 -t 10s   ten seconds without a page
  kvss load run --help                                         all options
  kvss load search --help"""


def add_arguments(parser: ArgumentParser) -> None:
    """Take every word as it is: options are Locust's, or those of the first word."""
    parser.epilog = _EPILOG
    parser.usage = "kvss load [WORD] [OPTION ...]"
    parser.prefix_chars = ""
    parser.add_argument("words", nargs=REMAINDER, metavar="OPTION", help="options of Locust's, or of the first word")
    parser.set_defaults(show_help=parser.print_help)


def run(args: Namespace) -> int:  # noqa: RET503 - execv does not return
    """Run one of the words; returns the exit code. `run` does not return: Locust takes the process over."""
    words: list[str] = args.words
    if words[:1] in (["-h"], ["--help"]):
        args.show_help()
        return Exit.OK
    if find_spec("locust") is None:
        raise Fail("the load tester needs Locust", "In the checkout: pip install -e '.[load]'")
    word = words[0] if words and words[0] in _WORDS else "run"
    rest = words[1:] if words[:1] == [word] else words
    if word in _MODULES:
        code: int = import_module(_MODULES[word]).main(rest)
        return code
    from kvss_gevent.loadtest.command import locust_command

    command = locust_command(rest)
    sys.stdout.flush()
    os.execv(command[0], command)
