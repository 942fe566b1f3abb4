"""A piece of work for one server of a store, and how much of it a server is given. Doing it is node.py's."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvss_gevent.stores.remote.connection import RawCommand, Reply

if TYPE_CHECKING:
    from kvss_gevent.stores.base import StoreError

BOILERPLATE_BYTES = 64
"""What a command weighs in the queue beside its arguments."""


@dataclass(frozen=True, slots=True)
class NodeLimits:
    """Bounds of one node. Times in seconds, sizes in bytes."""

    timeout_s: float = 2.0
    """For connecting, for sending a pipeline, and for each reply; a pipeline may take it once more as a whole."""

    pipeline_commands: int = 1024
    """A pipeline takes no more work once it has as many; 1 is one round trip for each piece of work."""

    pipeline_bytes: int = 4 << 20
    queue_bytes: int = 64 << 20
    """NodeRequest waiting for the node; what does not fit is refused."""

    replicas_ack: int = 0
    """Replicas that must have confirmed a write before it is acknowledged."""


class NodeRequest:
    """Commands for one node, run together and in order; afterwards their replies, or the error that struck them all."""

    __slots__ = ("asking", "commands", "deadline_s", "done", "error", "keep_bytes", "replies", "size_bytes", "writes")

    def __init__(  # noqa: PLR0913 - all but three are rarely given
        self,
        commands: Sequence[RawCommand],
        done: Callable[["NodeRequest"], None],
        deadline_s: float,
        *,
        size_bytes: int = 0,
        writes: bool = False,
        asking: bool = False,
        keep_bytes: int = 1 << 30,
    ) -> None:
        self.commands = commands
        self.done = done
        """Called once, by the node's runner or the caller; must not wait."""
        self.deadline_s = deadline_s
        """Not sent after this time (of time.monotonic)."""
        self.size_bytes = size_bytes + BOILERPLATE_BYTES * len(commands)
        self.writes = writes
        self.asking = asking
        """Precede each command with ASKING: its slot is on its way to this node."""
        self.keep_bytes = keep_bytes
        """Once values are more than this together, the next ones are read and replaced by TOO_MUCH."""
        self.replies: list[Reply] = []
        self.error: StoreError | None = None


class TooMuch:
    """Stands in for a value that was fetched and not kept."""


TOO_MUCH = TooMuch()
