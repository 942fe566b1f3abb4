"""What the processes of a run tell each other, as plain data that Locust's messages can carry."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

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
