"""The messages between the processes of a run, as plain data that Locust can send."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from kvss_gevent.loadtest.engine.clock import clock
from kvss_gevent.loadtest.engine.recorder import Tally


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What every process of a run must know, as plain data, so that Locust can send it."""

    token: str
    workers: tuple[str, ...] = ()
    users: int = 1
    loaded: bool = False

    @classmethod
    def from_plain(cls, data: Mapping[str, Any]) -> "RunPlan":
        """Return the plan from the dict that `dataclasses.asdict` made."""
        return cls(data["token"], tuple(data["workers"]), data["users"], data["loaded"])


@dataclass(frozen=True, slots=True)
class Window:
    """The measured window, which the master sends to its workers: its begin by the master's clock, and in how long.

    Processes on one machine have the same clock, so their windows are the same. On another machine the window is later
    by the time that the message takes.
    """

    begins: float
    in_s: float
    measure_s: float
    boot: str

    def begin_here(self) -> float:
        """Return its begin by this process's clock."""
        return self.begins if self.boot == boot_id() else clock() + self.in_s


def boot_id() -> str:
    """Return an id of this machine's clock, which counts from the start of the machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return uuid4().hex


@dataclass(slots=True)
class Update:
    """What a process reports once a tick: a second of the window, its counts, and its present state.

    `reset` is how many resets of the statistics the process knows of; `summary` is the present Run.summary().
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
        """Return the update from the data that `pack` made."""
        backlog, users, down_s, reset = data["gauges"]
        return cls(data["second"], Tally.unpack(data["tally"]), backlog, users, down_s, reset, data["summary"])
