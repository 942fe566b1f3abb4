"""The one exception that a command raises to end with a message and an exit code."""

import errno
import os
import re
import sys
from enum import IntEnum
from pathlib import Path

LONGEST_WORD = 300
"""Of a longer word, a message shows only the beginning: nobody would find what follows it."""


NO_THREAD = "can't start new thread"
"""What Python says where the system allows no more threads."""


class Exit(IntEnum):
    """The exit codes that commands share; a command's help lists those it uses."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3


class Fail(Exception):
    """Ends the command: one line with the cause, one with what to do, the exit code, and a usage to show.

    command: given if the error belongs to another command than the one that runs, such as to a subcommand.
    """

    def __init__(self, cause: str, remedy: str, code: int = Exit.USAGE, *, usage: str = "", command: str = "") -> None:
        super().__init__(cause)
        self.usage = usage
        self.command = command
        self.cause = cause
        self.remedy = remedy
        self.code = code

    def show(self, command: str) -> None:
        """Print the two lines, with control characters as escapes, so that no path or name can control the terminal."""
        cause, remedy = _shortened(escaped(self.cause)), _shortened(escaped(self.remedy))
        lines = f"{self.command or command}: {cause}\n  {remedy}\n{self.usage}"
        print(lines, end="", file=sys.stderr, flush=True)


def explained(error: Exception) -> Fail | None:
    """Return what an error says to people where the system refused something; None for an error in this program."""
    match error:
        case Fail():
            return error
        case OSError():
            where = f": {os.fsdecode(error.filename)}" if error.filename else ""
            remedy = "The system refused it: check the path, its permissions, and the space on the disk."
            if error.errno in (errno.EMFILE, errno.ENFILE):
                remedy = "Too many files are open: close some, or raise the limit: ulimit -n."
            return Fail(f"{error.strerror or error}{where}", remedy, Exit.UNREACHABLE)
        case RuntimeError() if str(error) == NO_THREAD:
            cause, remedy = "the system allows no more threads", "End other programs, or raise the limit: ulimit -u."
            return Fail(cause, remedy, Exit.UNREACHABLE)
        case MemoryError():
            return Fail("there is not enough memory", "End other programs, or ask for less.", Exit.UNREACHABLE)
    return None


def install(extras: str) -> str:
    """Return how to install extras of this package, such as `lab,load`, as it was installed itself."""
    if (Path(__file__).parents[2] / "pyproject.toml").exists():
        return f"In the checkout: pip install -e '.[{extras}]'"
    from importlib.metadata import version  # it takes longer to import than all else here

    return f"In the folder of the wheel: pip install 'kvss_gevent-{version('kvss-gevent')}-py3-none-any.whl[{extras}]'"


def _shortened(text: str) -> str:
    """Return a text in which words longer than LONGEST_WORD are cut."""
    return re.sub(rf"(\S{{{LONGEST_WORD}}})(\S+)", lambda word: f"{word[1]}... ({len(word[0]):,} characters)", text)


def escaped(text: str) -> str:
    """Return a text in which each character that cannot be printed is an escape, also a line feed."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )
