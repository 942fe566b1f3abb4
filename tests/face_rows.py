"""What a row of recorded bytes has: a script for each connection, the calls of the program, and what they become."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from kvss_gevent import KVError

CUE = "cue"
"""In a script: wait until the program comes to the step `cue`. That step waits for what the script then sends."""
ENDED = "ended"
"""A step: wait until the server has ended so many connections."""


@dataclass(frozen=True)
class Raises:
    """An error that a call raises: its kind, a pattern of its whole text, and the types of its results."""

    kind: type[KVError] | type[ValueError] | type[TypeError]
    text: str = ".*"
    results: tuple[type, ...] = ()

    def check(self, error: BaseException, port: int) -> None:
        assert type(error) is self.kind, repr(error)
        assert re.fullmatch(self.text.replace("<server>", f"127.0.0.1:{port}"), str(error)), str(error)
        if isinstance(error, KVError):
            assert tuple(map(type, error.results)) == self.results


@dataclass(frozen=True)
class Row:
    """connections: for each, pairs of how many lines to read and the bytes to answer with; it is closed at the end.

    A number instead of bytes is a wait in seconds. calls: a method, its arguments, and the result or error.
    """

    name: str
    connections: tuple[Sequence[tuple[int, bytes | float | str]], ...]
    calls: Sequence[tuple[Any, ...]]
    sent: Sequence[bytes] | None = None
    options: dict[str, Any] = field(default_factory=dict)


GET = ("get", b"k")
SENT_GET = b"KV/1.0 GET k"
RIGHT = ((1, b"200 OK right\n"),)
