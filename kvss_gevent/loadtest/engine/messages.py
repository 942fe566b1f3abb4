"""What the processes of a run tell each other, as plain data that Locust's messages can carry."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from kvss_gevent.loadtest.engine.clock import clock
from kvss_gevent.loadtest.engine.recorder import Tally


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What every process of a run must know alike; plain data, so that Locust can send it."""

    token: str
    workers: tuple[str, ...] = ()
    users: int = 1
    loaded: bool = False

    @classmethod
    def from_plain(cls, data: Mapping[str, Any]) -> "RunPlan":
        """Return the plan that `dataclasses.asdict` wrote down."""
        return cls(data["token"], tuple(data["workers"]), data["users"], data["loaded"])


@dataclass(frozen=True, slots=True)
class Window:
    """The measured window, as the master tells its workers: when it begins by its own clock, and how soon that is.

    Clocks of processes on one machine agree, so that their windows are one. Elsewhere it is as late as the message.
    """

    begins: float
    in_s: float
    measure_s: float
    boot: str

    def begin_here(self) -> float:
        """Return when it begins by this process's clock."""
        return self.begins if self.boot == boot_id() else clock() + self.in_s


def boot_id() -> str:
    """Return what tells this machine's clock from others: they count from the start of their machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return uuid4().hex


@dataclass(slots=True)
class Update:
    """What a process tells once a tick: the second of the window it is about, counts, and what it looks like now.

    `reset` is how many resets of the statistics the process had heard of; `summary` is Run.summary() as it stands.
    """

    second: int
    tally: Tally
    backlog: int = 0
    users: int = 0
    down_s: float = 0.0
    reset: int = 0
    summary: dict[str, float] = field(default_factory=dict)

    def pack(self) -> dict[str, Any]:
        """Return the update as plain data for a message."""
        return {
            "second": self.second,
            "tally": self.tally.pack(),
            "gauges": [self.backlog, self.users, self.down_s, self.reset],
            "summary": self.summary,
        }

    @classmethod
    def unpack(cls, data: dict[str, Any]) -> "Update":
        """Return the update that `pack` wrote down."""
        backlog, users, down_s, reset = data["gauges"]
        return cls(data["second"], Tally.unpack(data["tally"]), backlog, users, down_s, reset, data["summary"])
