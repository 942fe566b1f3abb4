"""Standard input, output and error of the `kvss` command, even if the caller has closed some of them.

A failed write to standard output raises OutputLost in every command, so that it is not taken for the failure of a file
or a server. A write to standard error never fails. A character that the terminal cannot show is escaped.
"""

import errno
import io
import os
import select
import sys
from typing import Any, Final

from kvss_gevent.settings.fail import Exit, Fail

READER_LEFT: Final = 128 + 13
"""Exit code of a command whose reader has closed the pipe: the same as if SIGPIPE had ended it."""


class OutputLost(Exception):
    """Standard output cannot be written any more; error says why."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error.strerror or str(error))
        self.reader_left = error.errno in (errno.EPIPE, errno.ESHUTDOWN)
        self.closed = error.errno == errno.EBADF

    def show(self, command: str) -> int:
        """Print the error on standard error, unless the reader has left; return the exit code."""
        if self.reader_left:
            return READER_LEFT
        remedy = "The rest of the output is lost: send it to another place."
        Fail(f"standard output cannot be written: {self}", remedy).show(command)
        return Exit.UNREACHABLE


class _Output(io.FileIO):
    """Standard output, unbuffered. After its first failure it drops everything."""

    def __init__(self) -> None:
        super().__init__(1, "w", closefd=False)
        self._lost = False

    def write(self, data: Any, /) -> int:
        if self._lost:
            return len(data)
        try:
            while (taken := super().write(data)) is None:  # full, and another program has made the pipe non-blocking
                select.select((), (1,), ())
            return taken
        except OSError as error:
            self._lost = True
            raise OutputLost(error) from None


class _Errors(io.FileIO):
    """Standard error, unbuffered. A message that cannot be written is dropped: nobody could be told of it."""

    def __init__(self) -> None:
        super().__init__(2, "w", closefd=False)

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data) or 0
        except OSError:
            return len(data)


def prepare() -> None:
    """Make sure that descriptors 0 to 2 are open and that sys.stdin, sys.stdout and sys.stderr are set.

    A closed one becomes the null device. Else the next opened file would get its number, and output would go into that
    file. For standard output the null device is opened for reading only, so that a write fails and is noticed.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDONLY if descriptor < 2 else os.O_WRONLY)
            os.set_inheritable(descriptor, True)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - it stays open
    if os.name != "posix":
        return  # Windows writes to a console in another way
    sys.stdout = _text(_Output(), sys.stdout)
    sys.stderr = _text(_Errors(), sys.stderr)


def _text(raw: io.FileIO, old: Any) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=old.encoding if old else "utf-8",
        errors="backslashreplace",
        line_buffering=raw.fileno() == 2 or raw.isatty(),
    )
