"""Runs a `kvss` command in this process: a new one costs 0.1 s of CPU or more for its start alone."""

import contextlib
import io
import os
import subprocess
from collections.abc import Mapping
from unittest import mock

from kvss_gevent.cli import main


def kvss(
    *words: str, stdin: str | bytes = b"", env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Return what the command printed, as a process of its own would; stdin is a file, not a terminal."""
    given = io.BytesIO(stdin.encode() if isinstance(stdin, str) else stdin)
    out, err = io.BytesIO(), io.BytesIO()
    with (
        mock.patch.dict(os.environ, env or {}),
        mock.patch("sys.stdin", io.TextIOWrapper(given)),
        contextlib.redirect_stdout(_text(out)),
        contextlib.redirect_stderr(_text(err)),
    ):
        code = main(words)
        printed = [stream.getvalue().decode(errors="surrogateescape") for stream in (out, err)]
    return subprocess.CompletedProcess(words, code, *printed)


def _text(stream: io.BytesIO) -> io.TextIOWrapper:
    return io.TextIOWrapper(stream, "utf-8", "backslashreplace", write_through=True)
