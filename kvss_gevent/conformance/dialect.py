"""How a server writes what it means: its habits are learnt or noted, so that each costs one case and not all."""

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from kvss_gevent.conformance.case import Habit, Line, matches
from kvss_gevent.conformance.stats_forms import FORMS
from kvss_gevent.protocol.wire import BYE, OK_PREFIX, REPLY, Status

TWICE: Final = b"\n\n"
"""The end of a reply with an empty line behind it."""

_NONE: Final[frozenset[Habit]] = frozenset()
_CODE: Final = re.compile(rb"[1-5]\d\d(?![0-9A-Za-z])")
_PHRASES: Final = frozenset(REPLY.values())
_SUCCESS: Final = {
    REPLY[Status.CREATED]: Habit.CREATED,
    REPLY[Status.OK]: Habit.REPLACED,
    REPLY[Status.NO_CONTENT]: Habit.DELETED,
}
"""What a PUT of a new key, a PUT of one that is there, and a DEL are answered with."""
_NO_LETTER: Final = re.compile(rb"[^A-Z]")


class Successes:
    """Learns what a server says in place of a success. ask returns its replies, if any, to PUT, PUT and DEL of one key.

    A server that never tells a new key from one that is there has one habit, and not a fault in every PUT. Few servers
    need to be asked, and one that hangs at a PUT must not be.
    """

    def __init__(self, ask: Callable[[], Sequence[bytes]] = tuple) -> None:
        self.instead: Mapping[bytes, bytes] = {}
        """Replies, each with the one that the server always gives in its place; empty until that was learnt."""
        self._ask = ask
        self._asked = False
        self._lock = threading.Lock()

    def learn(self) -> bool:
        """Ask the server, unless that was done; return whether it has such a habit."""
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
    """How every line of a server looks.

    greeting_lines: before the first reply. prompt: bytes without a line feed before each reply. end: what ends a
    reply, b"" for nothing. padded: NUL bytes stand behind the line feed. sample: what the first connection received.
    """

    greeting_lines: int = 0
    prompt: bytes = b""
    end: bytes = b"\n"
    padded: bool = False
    sample: bytes = b""
    successes: Successes = field(default_factory=Successes, compare=False)

    @property
    def habits(self) -> frozenset[Habit]:
        """What is odd about it."""
        odd = {
            Habit.GREETING: bool(self.greeting_lines or self.prompt),
            Habit.ENDING: self.end != b"\n",
            Habit.PADDING: self.padded,
        }
        return frozenset(habit for habit, holds in odd.items() if holds)


PLAIN: Final = Dialect()


def learn(greeting: bytes, reply: bytes) -> Dialect:
    """Return the dialect of a server from what came before the first request and what came behind it."""
    *lines, prompt = greeting.replace(b"\0", b"").split(b"\n")
    greeting_lines = len(lines)
    if not greeting:
        # A greeting that came late stands before the line that begins with a code.
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
    """Return the habits by which a received line differs from the expected one; None where it means another thing.

    instead: see Successes.
    """
    found = _habits_of(line, got)
    if found is None and isinstance(line, bytes) and (other := instead.get(line)):
        found = _habits_of(other, got)
        return None if found is None else found | {_SUCCESS[line]}
    return found


def is_other_success(line: Line, got: bytes) -> bool:
    """Tell whether another success was received than the expected one."""
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
