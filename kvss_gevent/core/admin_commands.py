"""The command for the operator of the server: SLOWLOG (rule 16)."""

import re
from collections.abc import Callable
from typing import Final, Protocol

from kvss_gevent.protocol.wire import LINE, OK_PREFIX, Status

USUAL_ENTRIES: Final = 10
_REQUEST: Final = re.compile(rb"KV/1\.0 SLOWLOG(?: ([1-9]\d{0,5}))?\n").fullmatch


class AdminCommands(Protocol):
    """Commands that are not part of KV/1.0."""

    def run(self, line: bytes, /) -> bytes | None:
        """Return the reply line to a request line, both with line feed; None for any other line."""


class Admin:
    """Answers `KV/1.0 SLOWLOG n` with one line of JSON; slow_log returns it for the n newest entries."""

    def __init__(self, slow_log: Callable[[int], bytes]) -> None:
        self._slow_log = slow_log

    def run(self, line: bytes) -> bytes | None:
        """See AdminCommands."""
        found = _REQUEST(line)
        return OK_PREFIX + self._slow_log(int(found[1] or USUAL_ENTRIES)) + b"\n" if found else None


class NoAdmin:
    """Refuses the commands to users who are not admin."""

    def run(self, line: bytes) -> bytes | None:
        """See AdminCommands."""
        return LINE[Status.FORBIDDEN] if _REQUEST(line) else None
