"""Logging that never waits: lines that cannot be written are dropped and counted. Lines are text or JSON objects."""

import io
import json
import logging
import os
import select
import socket
import stat
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from kvss_gevent.settings.fail import escaped

NOTICE: Final = 35
"""Above a warning: events of the server's life, shown unless --log-level is error."""

LEVELS: Final = {
    "error": logging.ERROR,
    "warning": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
}

ATOMIC_BYTES: Final = 4096
"""PIPE_BUF on Linux: a pipe takes so many bytes whole or not at all."""

MAX_LINE_BYTES: Final = 64 << 10

MOST_REPEATS: Final = 100
"""More than the settings that one SIGHUP can change."""
REPEATS_S: Final = 60.0


class Sink(io.RawIOBase):
    """Standard error as a stream whose writes never wait and never fail.

    A pipe or terminal is opened once more, for its own O_NONBLOCK: the flag of descriptor 2 belongs to other programs,
    too. The kernel's buffer is the queue. A line that finds no room is dropped. The next line that is written says how
    many were dropped.
    """

    def __init__(self, descriptor: int = 2) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._dropped = 0
        self._torn = False
        """Only a part of a line was written, so the next one must begin on a new line."""
        self._send = self._find_way(descriptor)

    def writable(self) -> bool:
        """Tell io that this stream takes bytes."""
        return True

    def fileno(self) -> int:
        """Return the descriptor that this stream writes to."""
        return self._descriptor

    def isatty(self) -> bool:
        """Tell whether the lines go to a terminal."""
        return os.isatty(self._descriptor)

    def write(self, data: Any) -> int:
        """Write one line, or drop it; returns its length in either case."""
        line = bytes(data)
        if not line:
            return 0
        if self._torn:
            line = b"\n" + line
        if self._dropped:
            line = b"kvss: %d lines of this log were lost: nobody took them\n" % self._dropped + line
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

    def _find_way(self, descriptor: int) -> Any:
        try:
            mode = os.fstat(descriptor).st_mode
        except OSError:
            return len
        if stat.S_ISSOCK(mode):
            sock = socket.socket(fileno=os.dup(descriptor))
            return lambda line: sock.send(line, socket.MSG_DONTWAIT)
        if stat.S_ISREG(mode) or not hasattr(select, "poll"):
            return lambda line: os.write(descriptor, line)
        try:
            own = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            return lambda line: os.write(own, line)
        except OSError:
            return self._write_if_ready

    def _write_if_ready(self, line: bytes) -> int:
        # Used if the pipe belongs to another user. If several processes write at the same moment, one can still wait
        # here.
        poller = select.poll()
        poller.register(self._descriptor, select.POLLOUT)
        if not poller.poll(0):
            return 0
        return os.write(self._descriptor, line[:ATOMIC_BYTES])


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


class Repeats(logging.Filter):
    """Leaves out a warning or error that was logged MOST_REPEATS times in a minute: a client may cause one a request.

    The next line of the same form says how many were left out. clock: in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._seen: dict[str, tuple[float, int]] = {}
        """By form: when its minute began, and how many lines it had since then."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a record is logged."""
        if record.levelno not in (logging.WARNING, logging.ERROR):
            return True
        form, now_s = str(record.msg), self._clock()
        begun_s, number = self._seen.get(form, (now_s, 0))
        if now_s - begun_s >= REPEATS_S:
            if number > MOST_REPEATS:
                record.msg = f"{record.getMessage()} ({number - MOST_REPEATS} such lines were left out before)"
                record.args = None
            begun_s, number = now_s, 0
        self._seen[form] = begun_s, number + 1
        return number < MOST_REPEATS


_repeats = Repeats()


def set_up(level: str, log_format: str) -> None:
    """Send the logs, and all that is written to sys.stderr from now on, to standard error without ever waiting."""
    logging.addLevelName(NOTICE, "NOTICE")
    if not isinstance(getattr(sys.stderr, "buffer", None), Sink):
        sys.stderr = io.TextIOWrapper(Sink(), encoding="utf-8", errors="backslashreplace", write_through=True)
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_repeats)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(handlers=[handler], level=LEVELS[level], force=True)
