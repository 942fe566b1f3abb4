"""`kvss completions`: prints a script with which a shell completes commands, options and values of options."""

import argparse
import re
from pathlib import Path

import shtab

from kvss_gevent.cli.parser import Parser
from kvss_gevent.models import MODULES
from kvss_gevent.settings.fail import Exit
from kvss_gevent.trace.scenes.catalogue import SCENES

SHELLS = ("bash", "zsh", "fish")
EPILOG = """\
examples:
  source <(kvss completions bash)                in bash, for this shell only
  kvss completions bash > ~/.local/share/bash-completion/completions/kvss
  kvss completions zsh > ~/.zfunc/_kvss          if ~/.zfunc is in fpath
  kvss completions fish > ~/.config/fish/completions/kvss.fish

Then start a new shell.

exit codes: 0 printed, 2 wrong usage
"""
_ALTERNATIVES = re.compile(r"[\w-]+(\|[\w-]+)+")
_NAMES = {"model": tuple(MODULES), "scene": tuple(SCENES)}
_FILES = {"FILE": shtab.FILE, "PATH": shtab.FILE, "PAGE": shtab.FILE, "DIR": shtab.DIRECTORY, "OUT": shtab.DIRECTORY}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `kvss completions`."""
    parser.epilog = EPILOG
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help=f"one of {', '.join(SHELLS)}")


def run(args: argparse.Namespace) -> int:
    """Print the script; returns the exit code."""
    from kvss_gevent.cli import whole_parser

    print(script(whole_parser(), args.shell))
    return Exit.OK


def script(parser: Parser, shell: str) -> str:
    """Return the script for one of SHELLS. parser is that of whole_parser; it is changed, so do not use it again."""
    for one in parser.walk():
        one.prefix_chars = "-"
        for action in one._actions:
            _complete_values(action)
    return shtab.complete(parser, shell)


def _complete_values(action: argparse.Action) -> None:
    takes = str(action.metavar or "")
    if action.dest in _NAMES:
        action.choices = _NAMES[action.dest]
    elif _ALTERNATIVES.fullmatch(takes):
        action.choices = takes.split("|")
    elif takes in _FILES or action.type is Path:
        action.complete = _FILES.get(takes, shtab.FILE)  # type: ignore[attr-defined]
