"""Standard input, output and error of the `kvss` command, whatever the caller has left of them.

What goes wrong with standard output is one exception, OutputLost, in every command: nobody takes it for a fault of a
file or a server. Standard error never fails. What a terminal cannot show becomes an escape.
"""

import errno
import io
import os
import select
import sys
from typing import Any, Final

READER_LEFT: Final = 128 + 13
"""Exit code of a command whose reader has closed the pipe, as of one that SIGPIPE ends."""


class OutputLost(Exception):
    """Standard output takes no more; error is why."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error.strerror or str(error))
        self.reader_left = error.errno in (errno.EPIPE, errno.ESHUTDOWN)
        self.closed = error.errno == errno.EBADF


class _Output(io.FileIO):
    """Standard output, unbuffered. After its first failure it takes and forgets everything."""

    def __init__(self) -> None:
        super().__init__(1, "w", closefd=False)
        self._lost = False

    def write(self, data: Any, /) -> int:
        if self._lost:
            return len(data)
        try:
            while (taken := super().write(data)) is None:  # another program has made the pipe non-blocking
                select.select((), (1,), ())
            return taken
        except OSError as error:
            self._lost = True
            raise OutputLost(error) from None


class _Errors(io.FileIO):
    """Standard error, unbuffered. Where nobody takes a message there is nobody to tell."""

    def __init__(self) -> None:
        super().__init__(2, "w", closefd=False)

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data) or 0
        except OSError:
            return len(data)


def prepare() -> None:
    """Have descriptors 0 to 2 open and sys.stdin, sys.stdout and sys.stderr in place.

    What is closed becomes the null device, or the next file that is opened would take its number and with it what is
    meant for it. A closed standard output is opened for reading only: writing fails, and is noticed.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDONLY if descriptor < 2 else os.O_WRONLY)
            os.set_inheritable(descriptor, True)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - a descriptor, for good
    if os.name != "posix":
        return  # a console there is written to in another way
    sys.stdout = _text(_Output(), sys.stdout)
    sys.stderr = _text(_Errors(), sys.stderr)


def _text(raw: io.FileIO, old: Any) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=old.encoding if old else "utf-8",
        errors="backslashreplace",
        line_buffering=raw.fileno() == 2 or raw.isatty(),
    )
