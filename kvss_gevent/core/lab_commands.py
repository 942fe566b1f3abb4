"""The two commands that only `kvss serve --lab` knows: BURN keeps a processor busy, SLEEP waits in a call that blocks.

BURN stands for a handler that computes, SLEEP for one that calls a library which does not know the event loop. Both run
in place, as in a textbook. The laboratory measures what this does to the other clients.
"""

import re
import time
from contextlib import AbstractContextManager, nullcontext
from threading import Lock

from kvss_gevent.protocol.wire import LINE, Status

MOST_MS = 10_000
_REQUEST = re.compile(rb"KV/1\.0 (BURN|SLEEP) (\d{1,5}(?:\.\d{1,3})?)\n")
_OK = LINE[Status.OK]


class Lab:
    """Runs `KV/1.0 BURN ms` and `KV/1.0 SLEEP ms`; the reply is 200 OK.

    apart: a context that is entered while a command runs. A command touches nothing that clients share. Models with
    threads release their lock there.
    """

    def __init__(self) -> None:
        self.apart: AbstractContextManager[object] = nullcontext()

    def run(self, line: bytes) -> bytes | None:
        """Run a request line and return its reply line, both with line feed; None for any other line."""
        match = _REQUEST.fullmatch(line)
        if match is None or float(match[2]) > MOST_MS:
            return None
        seconds = float(match[2]) / 1000
        with self.apart:
            if match[1] == b"BURN":
                burn(seconds)
            else:
                time.sleep(seconds)
        return _OK


def burn(seconds: float) -> None:
    """Run Python code until this thread has used that much CPU time."""
    until_s = time.thread_time() + seconds
    while time.thread_time() < until_s:
        sum(range(200))  # 3 us of work between two readings of the clock


class Unlocked:
    """Releases a held lock for the time of a `with` block. Several threads may use one object."""

    def __init__(self, lock: Lock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        self._lock.release()

    def __exit__(self, *_: object) -> None:
        self._lock.acquire()
