"""The dialect of a server: its habits in writing replies. They are learnt, so that each costs one case and not all."""

import re
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from kvss_gevent.conformance.case import Habit, Line, matches
from kvss_gevent.conformance.stats_forms import FORMS
from kvss_gevent.protocol.wire import BYE, OK_PREFIX, REPLY, Status

TWICE: Final = b"\n\n"
"""The end of a reply that an empty line follows."""

Secure = Callable[[socket.socket], socket.socket]
"""Makes a connected socket one that speaks TLS (rule 13). Raises OSError, and Gone if it can say more."""

_NONE: Final[frozenset[Habit]] = frozenset()
_CODE: Final = re.compile(rb"[1-5]\d\d(?![0-9A-Za-z])")
_PHRASES: Final = frozenset(REPLY.values())
_SUCCESS: Final = {
    REPLY[Status.CREATED]: Habit.CREATED,
    REPLY[Status.OK]: Habit.REPLACED,
    REPLY[Status.NO_CONTENT]: Habit.DELETED,
}
"""The replies to a PUT of a new key, a PUT of an existing key, and a DEL."""
_NO_LETTER: Final = re.compile(rb"[^A-Z]")


class Successes:
    """Learns which reply a server uses in place of a success. ask returns its replies to PUT, PUT and DEL of one key.

    A server that answers every PUT alike has one habit, and not one fault for each PUT. It is asked only when this is
    needed, because a server may hang at a PUT.
    """

    def __init__(self, ask: Callable[[], Sequence[bytes]] = tuple) -> None:
        self.instead: Mapping[bytes, bytes] = {}
        """The server's reply for each expected reply that it replaces; empty until this was learnt."""
        self._ask = ask
        self._asked = False
        self._lock = threading.Lock()

    def learn(self) -> bool:
        """Ask the server if it was not asked before; return whether it has such a habit."""
        with self._lock:
            if not self._asked:
                self._asked = True
                self.instead = {
                    line: other
                    for line, got in zip(_SUCCESS, self._ask(), strict=False)
                    for other in _SUCCESS
                    if other != line and got[:3] == other[:3]
                }
        return bool(self.instead)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How to converse with a server: what each connection sends first, and the form of all replies.

    login: the request that logs in (rule 12), with its line feed; b"" for none. secure: None without TLS.
    greeting_lines: the number of lines before the first reply. prompt: bytes without a line feed before each reply.
    end: the bytes that end a reply, b"" for none. padded: NUL bytes follow the line feed. sample: everything that the
    first connection received.
    """

    greeting_lines: int = 0
    prompt: bytes = b""
    end: bytes = b"\n"
    padded: bool = False
    sample: bytes = b""
    login: bytes = field(default=b"", repr=False)
    secure: Secure | None = None
    successes: Successes = field(default_factory=Successes, compare=False)

    @property
    def habits(self) -> frozenset[Habit]:
        """The habits in which it differs from the protocol."""
        odd = {
            Habit.GREETING: bool(self.greeting_lines or self.prompt),
            Habit.ENDING: self.end != b"\n",
            Habit.PADDING: self.padded,
        }
        return frozenset(habit for habit, holds in odd.items() if holds)


PLAIN: Final = Dialect()


def learn(greeting: bytes, reply: bytes) -> Dialect:
    """Return the dialect of a server from what it sent before the first request and after it."""
    *lines, prompt = greeting.replace(b"\0", b"").split(b"\n")
    greeting_lines = len(lines)
    if not greeting:
        # If the greeting was late, it is in front of the line that begins with a code.
        *before, _ = reply.split(b"\n")
        codes = [number for number, line in enumerate(before) if _CODE.match(line.lstrip(b"\0"))]
        greeting_lines = codes[0] if codes else 0
    last = reply.removesuffix(prompt) if prompt else reply
    bare = last.rstrip(b"\0")
    padded = bare != last and bare.endswith(b"\n")
    ends = (b"\r\n", TWICE, b"\n", b"" if bare == last else b"\0")
    end = next(end for end in ends if bare.endswith(end) or end in (b"", b"\0"))
    return Dialect(greeting_lines, prompt, end, padded, greeting + reply)


def habits_of(line: Line, got: bytes, instead: Mapping[bytes, bytes]) -> frozenset[Habit] | None:
    """Return the habits by which a received line differs from the expected one; None if its meaning is different.

    instead: see Successes.
    """
    found = _habits_of(line, got)
    if found is None and isinstance(line, bytes) and (other := instead.get(line)):
        found = _habits_of(other, got)
        return None if found is None else found | {_SUCCESS[line]}
    return found


def is_other_success(line: Line, got: bytes) -> bool:
    """Tell whether a success was received, but not the expected one."""
    return line in _SUCCESS and any(got[:3] == other[:3] for other in _SUCCESS if other != line)


def _habits_of(line: Line, got: bytes) -> frozenset[Habit] | None:
    if matches(line, got):
        return _NONE
    if not isinstance(line, bytes):
        return frozenset({Habit.STATS}) if line in FORMS.values() and got.startswith(b"200") else None
    if not _CODE.match(got) or got[:3] != line[:3]:
        return None
    if line == BYE:
        return frozenset({Habit.FAREWELL})
    if line not in _PHRASES:
        head, value = got[: len(OK_PREFIX)], got[len(OK_PREFIX) :]
        same = head.upper() == OK_PREFIX and value == line[len(OK_PREFIX) :]
        return frozenset({Habit.SPELLING}) if same else None
    if got.startswith(line) and not got[len(line) :][:1].isalnum() and got[len(line) :][:1] != b"_":
        return frozenset({Habit.TEXT})
    letters, asked = _NO_LETTER.sub(b"", got.upper()), _NO_LETTER.sub(b"", line)
    longer = letters != asked and letters.startswith(asked)
    return frozenset({Habit.SPELLING, Habit.TEXT}) if longer else frozenset({Habit.SPELLING})
