"""Runs a `kvss` command in this process: a new one costs 0.2 s of CPU or more for its start alone."""

import contextlib
import io
import subprocess
from unittest import mock

from kvss_gevent.cli import main


def kvss(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Return what the command printed, as a process of its own would; stdin is a file, not a terminal."""
    with (
        contextlib.redirect_stdout(io.StringIO()) as out,
        contextlib.redirect_stderr(io.StringIO()) as err,
        mock.patch("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()))),
    ):
        code = main(words)
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())
