"""The one exception that a command raises to end with a message and an exit code."""

import sys
from enum import IntEnum


class Exit(IntEnum):
    """The exit codes that commands share; a command's help lists those it uses."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3


class Fail(Exception):
    """Ends the command: one line with the cause, one with what to do, the exit code, and a usage to show."""

    def __init__(self, cause: str, remedy: str, code: int = Exit.USAGE, *, usage: str = "") -> None:
        super().__init__(cause)
        self.usage = usage
        self.cause = cause
        self.remedy = remedy
        self.code = code

    def show(self) -> None:
        """Print the two lines, with control characters as escapes: a path or a name cannot steer a terminal."""
        print(f"kvss: {escaped(self.cause)}\n  {escaped(self.remedy)}\n{self.usage}", end="", file=sys.stderr)


def escaped(text: str) -> str:
    """Return a text with everything in it that cannot be printed as an escape, line feeds, too."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )
