"""A conformance case: a few steps as data. The cases are in cases/; case_runner.py runs them.

The bytes in steps are templates: `{k}` becomes a key that is new in every run, `{k511}` the same key padded to 511
bytes, and `{x100}` becomes 100 letters x.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from re import Pattern
from typing import Final

FIRST: Final = "a"
"""The name of a case's first connection; most cases need no other."""

Line = bytes | Pattern[bytes]
"""A reply line without its line feed: exactly these bytes, or any line that the whole pattern matches."""


class Source(StrEnum):
    """The document that requires what a case checks."""

    SHEET = "sheet"
    README = "readme"
    COURSE = "sheet and readme"
    PROJECT = "project"
    PRACTICE = "practice"
    """Good practice that no document requires: advice without points in every profile."""


PROFILES: Final[dict[str, frozenset[Source]]] = {
    "sheet": frozenset({Source.SHEET, Source.COURSE}),
    "readme": frozenset({Source.README, Source.COURSE}),
    "project": frozenset({Source.SHEET, Source.README, Source.COURSE, Source.PROJECT}),
}
"""The sources whose cases give points, by profile; all other cases are advice."""

PROJECT: Final = "project"


class Habit(StrEnum):
    """A mistake in the form of all replies: one case judges it, and all other cases ignore it."""

    GREETING = "greeting"
    ENDING = "ending"
    PADDING = "padding"
    TEXT = "text"
    SPELLING = "spelling"
    FAREWELL = "farewell"
    STATS = "stats"
    CREATED = "created"
    REPLACED = "replaced"
    DELETED = "deleted"


_FIELD: Final = re.compile(rb"\{([kx])(\d*)\}")


@dataclass(frozen=True, slots=True)
class Send:
    """Send data in one packet, or in packets of `cut` bytes. The first step that names a connection opens it."""

    data: bytes
    on: str = FIRST
    cut: int = 0


@dataclass(frozen=True, slots=True)
class Expect:
    """Wait for these reply lines, in order. strict names the one habit that is not ignored here."""

    lines: tuple[Line, ...]
    on: str = FIRST
    strict: Habit | None = None


@dataclass(frozen=True, slots=True)
class AskStats:
    """Send STATS and check its counters. A counter that the server's form of STATS does not have is not checked.

    moved: each (counter, least, most) bounds its change since the case's last STATS. exact, least: each (counter,
    number) is its value or its lowest value. STATS is sent again for settle_s, until all of this is true: a server may
    notice late that a client has left. calm: STATS is sent until two replies in a row have the same connections.
    """

    moved: tuple[tuple[str, int, int], ...] = ()
    exact: tuple[tuple[str, int], ...] = ()
    least: tuple[tuple[str, int], ...] = ()
    settle_s: float = 0.0
    calm: bool = False
    on: str = FIRST


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait. The time is added to the case's timeout."""

    seconds: float


@dataclass(frozen=True, slots=True)
class HalfClose:
    """Close the sending side and continue to read."""

    on: str = FIRST


@dataclass(frozen=True, slots=True)
class Leave:
    """Close the connection, like a client that has finished."""

    on: str = FIRST


@dataclass(frozen=True, slots=True)
class Finish:
    """Close the sending side, wait until the server closes, and leave. Nothing that the server sends is judged.

    After this step the server has handled everything that was sent before. The wait is bounded.
    """

    on: str = FIRST


@dataclass(frozen=True, slots=True)
class Taken:
    """Wait until the server has read what was sent, as far as the kernel knows."""

    on: str = FIRST


@dataclass(frozen=True, slots=True)
class Reset:
    """Reset the connection, like a client that crashes."""

    on: str = FIRST


@dataclass(frozen=True, slots=True)
class Closed:
    """The server closes the connection and sends nothing before. judged: False if another case checks this."""

    on: str = FIRST
    judged: bool = True


@dataclass(frozen=True, slots=True)
class Race:
    """Many clients at the same moment; name is that of a contest in races/contests.py."""

    name: str


Step = Send | Expect | AskStats | Pause | HalfClose | Leave | Finish | Taken | Reset | Closed | Race


@dataclass(frozen=True, slots=True)
class Case:
    """One behaviour of a KV/1.0 server, with its rule of docs/protocol.md and its points.

    source: the document that requires it. alone: no other case may run at the same time. patience: the factor by which
    its timeout is longer. attempts: how often it is tried before it counts as failed, because other clients of the
    server can disturb it. form: the STATS form that it checks, None for both. habit: what it judges and other cases
    ignore. fresh: it needs a server that has just been started.
    """

    id: str
    group: str
    rule: int
    title: str
    steps: tuple[Step, ...]
    hint: str
    points: int = 1
    alone: bool = False
    patience: int = 1
    attempts: int = 1
    form: str | None = None
    source: Source = Source.PROJECT
    habit: Habit | None = None
    fresh: bool = False

    @property
    def plain(self) -> bool:
        """Whether sent, expected, half_closes and closes describe it fully: one connection, no clock, no counters."""
        return all(isinstance(step, Send | Expect | HalfClose | Closed) and step.on == FIRST for step in self.steps)

    @property
    def sent(self) -> tuple[bytes, ...]:
        """The packets of a plain case."""
        return tuple(packet for step in self.steps if isinstance(step, Send) for packet in packets(step))

    @property
    def expected(self) -> tuple[Line, ...]:
        """The reply lines of a plain case."""
        return tuple(line for step in self.steps if isinstance(step, Expect) for line in step.lines)

    @property
    def half_closes(self) -> bool:
        """Whether the client closes its sending side after the last packet."""
        return any(isinstance(step, HalfClose) for step in self.steps)

    @property
    def closes(self) -> bool:
        """Whether the server closes the connection after the last reply, although the client has not closed it."""
        return not self.half_closes and any(isinstance(step, Closed) for step in self.steps)

    @property
    def needs_two(self) -> bool:
        """Whether two clients are connected at the same time."""
        connected: set[str] = set()
        for step in self.steps:
            match step:
                case Race():
                    return True
                case Leave() | Finish() | Reset() | Closed(judged=True):
                    connected.discard(step.on)
                case Send() | Expect() | AskStats():
                    connected.add(step.on)
            if len(connected) > 1:
                return True
        return False

    def points_in(self, profile: str) -> int:
        """Return the case's points in a profile; 0 if the profile's document does not require it."""
        return self.points if self.source in PROFILES[profile] else 0

    @property
    def counts(self) -> bool:
        """Whether it compares counters, which other clients may change."""
        return any(isinstance(step, AskStats) for step in self.steps)

    @property
    def pauses_s(self) -> float:
        """The sum of the case's pauses, in seconds."""
        return sum(step.seconds for step in self.steps if isinstance(step, Pause))

    def rendered(self, key: bytes) -> "Case":
        """Return the case with all templates filled in for a key."""
        return replace(self, steps=tuple(_rendered(step, key) for step in self.steps))

    def accepts(self, received: bytes) -> bool:
        """Tell whether a server sent exactly the expected replies to a plain case."""
        *lines, rest = received.split(b"\n")
        return not rest and len(lines) == len(self.expected) and all(map(matches, self.expected, lines))


def ask(line: bytes, *replies: Line, on: str = FIRST) -> tuple[Step, ...]:
    """Return the steps that send one request in its own packet and wait for its reply."""
    return Send(line + b"\n", on), Expect(replies, on)


def pipeline(lines: Iterable[bytes], replies: Iterable[Line]) -> tuple[Step, ...]:
    """Return the steps that send many requests in one packet and wait for their replies."""
    return Send(b"".join(line + b"\n" for line in lines)), Expect(tuple(replies))


def packets(step: Send) -> tuple[bytes, ...]:
    """Return the packets of a step."""
    if not step.cut:
        return (step.data,)
    return tuple(step.data[start : start + step.cut] for start in range(0, len(step.data), step.cut))


def matches(line: Line, got: bytes) -> bool:
    """Tell whether a received line, without its line feed, is as expected."""
    return got == line if isinstance(line, bytes) else line.fullmatch(got) is not None


def render(data: bytes, key: bytes) -> bytes:
    """Fill in a template."""

    def fill(field: re.Match[bytes]) -> bytes:
        filler, size = field[1], int(field[2] or 0)
        return b"x" * size if filler == b"x" else key.ljust(size, b"x")

    return _FIELD.sub(fill, data)


def _rendered(step: Step, key: bytes) -> Step:
    if isinstance(step, Send):
        return replace(step, data=render(step.data, key))
    if isinstance(step, Expect):
        return replace(step, lines=tuple(render(line, key) if isinstance(line, bytes) else line for line in step.lines))
    return step
