"""The one table of signals: what a server does at each. Handlers, help and docs are derived from it."""

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final


class Act(Enum):
    """What a signal asks for."""

    DRAIN = auto()
    RELOAD = auto()
    REPORT = auto()
    DUMP = auto()
    IGNORE = auto()


@dataclass(frozen=True, slots=True)
class SignalRow:
    """Signals by name, and what the server does, in words."""

    names: tuple[str, ...]
    act: Act
    says: str


TABLE: Final = (
    SignalRow(
        ("SIGTERM", "SIGINT"),
        Act.DRAIN,
        "stops accepting, answers received requests, and ends; a second signal ends it at once, with exit code 128 + N",
    ),
    SignalRow(
        ("SIGHUP",), Act.RELOAD, "reads the file of --config again, and logs which settings change and which cannot"
    ),
    SignalRow(("SIGUSR1",), Act.REPORT, "logs one line with the counters of STATS"),
    SignalRow(("SIGUSR2",), Act.DUMP, "writes the contents of the flight recorder, if there is one"),
    SignalRow(("SIGALRM", "SIGVTALRM", "SIGPROF"), Act.IGNORE, "logs that it is ignored"),
)


def numbers(*acts: Act) -> list[int]:
    """Return the signals of these acts, or of all, that this system has."""
    return [
        getattr(signal, name)
        for row in TABLE
        if not acts or row.act in acts
        for name in row.names
        if hasattr(signal, name)
    ]


def handle(
    handlers: Mapping[Act, Callable[[int], None]],
    register: Callable[[int, Callable[[int], None]], object],
    but: tuple[str, ...] = (),
) -> None:
    """Call register(number, handler) for every signal in the table but some; an act without a handler is ignored."""
    for row in TABLE:
        for name in row.names:
            if hasattr(signal, name) and name not in but:
                register(getattr(signal, name), handlers.get(row.act, handlers[Act.IGNORE]))


def shown(number: int) -> str:
    """Return the name of a signal, such as SIGTERM."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
