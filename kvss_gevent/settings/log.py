"""Logging that never waits: lines that cannot be written are dropped and counted. Lines are text or JSON objects."""

import io
import json
import logging
import math
import os
import select
import socket
import stat
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TextIO

from kvss_gevent.settings.fail import escaped

NOTICE: Final = 35
"""Above a warning: events of the server's life, shown unless --log-level is error."""

LEVELS: Final = {
    "error": logging.ERROR,
    "warning": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
}

STDERR: Final = 2
"""The descriptor of standard error."""

ATOMIC_BYTES: Final = 4096
"""PIPE_BUF on Linux: a pipe takes so many bytes whole or not at all."""

MAX_LINE_BYTES: Final = 64 << 10

MOST_REPEATS: Final = 100
"""More than the settings that one SIGHUP can change."""
REPEATS_S: Final = 60.0
LAST: Final = {"is_last": True}
"""The extra of the last line of a program: what was left out is told before it."""
LEFT_OUT: Final = "left out %d lines such as: %s"
LOST: Final = "%d lines of this log were lost: nobody took them"


class Sink(io.RawIOBase):
    """Standard error as a stream whose writes never wait and never fail.

    A pipe or terminal is opened once more, for its own O_NONBLOCK: the flag of descriptor 2 belongs to other programs,
    too. The kernel's buffer is the queue. A line that finds no room is dropped. Before the next line that is written
    the log says how many were dropped.
    formatter: of the log.
    """

    def __init__(self) -> None:
        super().__init__()
        self.formatter: logging.Formatter
        self._dropped = 0
        self._torn = False
        """Only a part of a line was written, so the next one must begin on a new line."""
        self._send = self._find_way()

    def writable(self) -> bool:
        """Tell io that this stream takes bytes."""
        return True

    def fileno(self) -> int:
        """Return its descriptor."""
        return STDERR

    def isatty(self) -> bool:
        """Tell whether the lines go to a terminal."""
        return os.isatty(STDERR)

    def write(self, data: Any) -> int:
        """Write one line, or drop it; returns its length in either case."""
        line = bytes(data)
        if not line:
            return 0
        if self._torn:
            line = b"\n" + line
        if self._dropped:
            lost = logging.LogRecord("kvss", logging.WARNING, "", 0, LOST, (self._dropped,), None)
            line = self.formatter.format(lost).encode() + b"\n" + line
        try:
            sent = self._send(line[:MAX_LINE_BYTES])
        except OSError:
            sent = 0
        if sent:
            self._dropped = 0
            self._torn = sent < len(line)
        else:
            self._dropped += 1
        return len(data)

    def _find_way(self) -> Any:
        try:
            mode = os.fstat(STDERR).st_mode
        except OSError:
            return len
        if stat.S_ISSOCK(mode):
            sock = socket.socket(fileno=os.dup(STDERR))
            return lambda line: sock.send(line, socket.MSG_DONTWAIT)
        if stat.S_ISREG(mode) or not hasattr(select, "poll"):
            return lambda line: os.write(STDERR, line)
        try:
            own = os.open(f"/proc/self/fd/{STDERR}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            return lambda line: os.write(own, line)
        except OSError:
            return self._write_if_ready

    def _write_if_ready(self, line: bytes) -> int:
        # Used if the pipe belongs to another user. If several processes write at the same moment, one can still wait
        # here.
        poller = select.poll()
        poller.register(STDERR, select.POLLOUT)
        if not poller.poll(0):
            return 0
        return os.write(STDERR, line[:ATOMIC_BYTES])


class TextFormatter(logging.Formatter):
    """Time, level, message; control characters are escaped, so that no path or client can control the terminal."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line without its traceback."""
        return escaped(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        """Return a traceback, indented: an error's text can have line feeds, and must not look like a log line."""
        return "\n".join(f"  {escaped(line)}" for line in super().formatException(ei).split("\n"))


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, message, process, and traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        shown: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            "pid": record.process,
        }
        if record.exc_info:
            shown["traceback"] = self.formatException(record.exc_info)
        return json.dumps(shown)


@dataclass(slots=True)
class _Form:
    """The warnings or errors with one format string, since the first of them in this interval."""

    level: int
    most: int
    ends_s: float
    number: int = 0
    left_out: str = ""
    """The first of the lines that were left out."""


class BoundedHandler(logging.StreamHandler[TextIO]):
    """Writes MOST_REPEATS warnings or errors of one form in a minute: a client may cause one with each request.

    A record with the extra `interval_s` asks for a stricter bound: one line of its form in so many seconds. How many
    lines were left out is told when the interval is over, before the next line, whatever its form. Before the LAST line
    and at the end all of it is told.
    clock: in seconds.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream)
        self._clock = clock
        self._forms: dict[tuple[str, float], _Form] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or count it as left out."""
        now_s = math.inf if hasattr(record, "is_last") else self._clock()
        self._tell(now_s)
        if record.levelno in (logging.WARNING, logging.ERROR) and self._is_too_much(record, now_s):
            return
        super().emit(record)

    def close(self) -> None:
        """Tell what was left out. The program ends, or the settings of the log change."""
        self._tell(math.inf)
        super().close()

    def _is_too_much(self, record: logging.LogRecord, now_s: float) -> bool:
        asked_s = getattr(record, "interval_s", 0.0)
        key = str(record.msg), asked_s
        form = self._forms.get(key)
        if form is None:
            form = _Form(record.levelno, 1 if asked_s else MOST_REPEATS, now_s + (asked_s or REPEATS_S))
            self._forms[key] = form
        form.number += 1
        if form.number <= form.most:
            return False
        form.left_out = form.left_out or record.getMessage()
        return True

    def _tell(self, now_s: float) -> None:
        for key, form in list(self._forms.items()):
            if form.ends_s <= now_s:
                del self._forms[key]
                if form.left_out:
                    told = form.number - form.most, form.left_out
                    super().emit(logging.LogRecord("kvss", form.level, "", 0, LEFT_OUT, told, None))


def set_up(level: str, log_format: str) -> None:
    """Send the logs, and all that is written to sys.stderr from now on, to standard error without ever waiting."""
    logging.addLevelName(NOTICE, "NOTICE")
    sink = getattr(sys.stderr, "buffer", None)
    if not isinstance(sink, Sink):
        sink = Sink()
        sys.stderr = io.TextIOWrapper(sink, encoding="utf-8", errors="backslashreplace", write_through=True)
    sink.formatter = JsonFormatter() if log_format == "json" else TextFormatter()
    handler = BoundedHandler(sys.stderr)
    handler.setFormatter(sink.formatter)
    logging.basicConfig(handlers=[handler], level=LEVELS[level], force=True)
