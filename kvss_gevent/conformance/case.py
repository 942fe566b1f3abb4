"""What a conformance case is: a few steps as data. The cases are in cases/, case_runner.py runs them.

Bytes in steps are templates: `{k}` becomes a key that is new in every run, `{k511}` the same key filled up to 511
bytes, and `{x100}` 100 letters x.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from re import Pattern
from typing import Final

FIRST: Final = "a"
"""The name of the connection that most cases need alone."""

Line = bytes | Pattern[bytes]
"""A reply line without its line feed: exactly these bytes, or whatever matches the whole pattern."""


class Source(StrEnum):
    """The document that asks for what a case looks at."""

    SHEET = "sheet"
    README = "readme"
    COURSE = "sheet and readme"
    PROJECT = "project"
    PRACTICE = "practice"
    """Good practice, in no document: advice without points everywhere."""


PROFILES: Final[dict[str, frozenset[Source]]] = {
    "sheet": frozenset({Source.SHEET, Source.COURSE}),
    "readme": frozenset({Source.README, Source.COURSE}),
    "project": frozenset({Source.SHEET, Source.README, Source.COURSE, Source.PROJECT}),
}
"""From the name of a profile to the sources whose cases have points in it; all others are advice."""

PROJECT: Final = "project"


class Habit(StrEnum):
    """A way to answer that one case judges and all other cases overlook."""

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
    """Send data as one packet, or in packets of cut bytes. A connection is opened when it is first named."""

    data: bytes
    on: str = FIRST
    cut: int = 0


@dataclass(frozen=True, slots=True)
class Expect:
    """Wait for these reply lines, in order. strict names the one habit that is not overlooked here."""

    lines: tuple[Line, ...]
    on: str = FIRST
    strict: Habit | None = None


@dataclass(frozen=True, slots=True)
class AskStats:
    """Ask for STATS. Counters that the form of the server's STATS does not have are not looked at.

    moved: each (counter, least, most) says how far it has moved since the case's last Stats step. exact, least: each
    (counter, number) says what it is, or is at least. Within settle_s it is asked again until all of that holds: a
    server may notice later that a client has left. calm: it is asked until the connections are the same twice.
    """

    moved: tuple[tuple[str, int, int], ...] = ()
    exact: tuple[tuple[str, int], ...] = ()
    least: tuple[tuple[str, int], ...] = ()
    settle_s: float = 0.0
    calm: bool = False
    on: str = FIRST


@dataclass(frozen=True, slots=True)
class Pause:
    """Do nothing for a while; the time comes on top of the case's timeout."""

    seconds: float


@dataclass(frozen=True, slots=True)
class HalfClose:
    """Close the sending side and go on reading."""

    on: str = FIRST


@dataclass(frozen=True, slots=True)
class Leave:
    """Close the connection as a client does that has finished."""

    on: str = FIRST


@dataclass(frozen=True, slots=True)
class Finish:
    """Close the sending side, wait for the server to close, whatever it sends first, and leave; it is not judged.

    What the server does with the bytes before is done by then. One that never closes is left after a while.
    """

    on: str = FIRST


@dataclass(frozen=True, slots=True)
class Taken:
    """Wait until the server has received what was sent, as far as the kernel knows."""

    on: str = FIRST


@dataclass(frozen=True, slots=True)
class Reset:
    """Break the connection off, as a client does that crashes."""

    on: str = FIRST


@dataclass(frozen=True, slots=True)
class Closed:
    """The server closes the connection and sends nothing before it does; if not judged, another case looks."""

    on: str = FIRST
    judged: bool = True


@dataclass(frozen=True, slots=True)
class Race:
    """Many clients at one moment, by the name of a race in races/contests.py."""

    name: str


Step = Send | Expect | AskStats | Pause | HalfClose | Leave | Finish | Taken | Reset | Closed | Race


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that a KV/1.0 server does, with its rule of docs/protocol.md and what it is worth.

    source: the document that asks for it. alone: nothing else may run beside it. patience: times the timeout it may
    take. attempts: tries before it counts as failed, for what another client of the same server can disturb. form: the
    STATS form it is about, None for both. habit: what it judges and other cases overlook. fresh: it needs a server that
    has just been started.
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
        """Whether sent, expected, half_closes and closes tell all: one connection, no clock, no counters."""
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
        """Whether the client closes its sending side behind the last packet."""
        return any(isinstance(step, HalfClose) for step in self.steps)

    @property
    def closes(self) -> bool:
        """Whether the server closes the connection behind the last reply, and not because the client has done so."""
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
        """Return what the case is worth in a profile: nothing where its document does not ask for it."""
        return self.points if self.source in PROFILES[profile] else 0

    @property
    def counts(self) -> bool:
        """Whether it compares counters, which other clients may move."""
        return any(isinstance(step, AskStats) for step in self.steps)

    @property
    def pauses_s(self) -> float:
        """How long the case waits by its own will, in seconds."""
        return sum(step.seconds for step in self.steps if isinstance(step, Pause))

    def rendered(self, key: bytes) -> "Case":
        """Return the case with every template filled in for a key."""
        return replace(self, steps=tuple(_rendered(step, key) for step in self.steps))

    def accepts(self, received: bytes) -> bool:
        """Tell whether all that a server sent to a plain case is what it must send, no more and no less."""
        *lines, rest = received.split(b"\n")
        return not rest and len(lines) == len(self.expected) and all(map(matches, self.expected, lines))


def ask(line: bytes, *replies: Line, on: str = FIRST) -> tuple[Step, ...]:
    """Return the steps of one request in a packet of its own and its reply."""
    return Send(line + b"\n", on), Expect(replies, on)


def pipeline(lines: Iterable[bytes], replies: Iterable[Line]) -> tuple[Step, ...]:
    """Return the steps of many requests in one packet and their replies."""
    return Send(b"".join(line + b"\n" for line in lines)), Expect(tuple(replies))


def packets(step: Send) -> tuple[bytes, ...]:
    """Return the packets of a step."""
    if not step.cut:
        return (step.data,)
    return tuple(step.data[start : start + step.cut] for start in range(0, len(step.data), step.cut))


def matches(line: Line, got: bytes) -> bool:
    """Tell whether a received line, without its line feed, is the expected one."""
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
