"""A piece of work for one server of a store, and the limits of a server. A Node runs it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kvss_gevent.stores.remote.node_connection import RawCommand, Reply

if TYPE_CHECKING:
    from kvss_gevent.stores.base import StoreError


PIPELINE_COMMANDS: Final = 1024
PIPELINE_BYTES: Final = 4 << 20
"""A pipeline with this many commands or bytes takes no further work."""


@dataclass(frozen=True, slots=True)
class NodeLimits:
    """Bounds of one node. Times in seconds, sizes in bytes."""

    timeout_s: float = 2.0
    """The limit for connecting, for sending a pipeline, for each reply, and for all replies of a pipeline together."""

    queue_bytes: int = 64 << 20
    """Bytes of packed requests that may wait for the node. More are refused."""

    replicas_ack: int = 0
    """Replicas that must have confirmed a write before it is acknowledged."""


class NodeRequest:
    """Commands for one node, run together and in order; afterwards their replies, or the error that all of them got.

    The maker sets the first four attributes: an __init__ would be one more call for every request.
    """

    commands: Sequence[RawCommand]
    packed: bytes
    """The commands in the form in which they are sent, each after ASKING if `asking` is true."""
    done: Callable[["NodeRequest"], None]
    """Called once, by the node's runner or the caller; must not wait."""
    deadline_s: float
    """Not sent after this time (of time.monotonic)."""
    writes = False
    asking = False
    """The slot of these commands is moving to this node. Each command has the reply to ASKING before its own."""
    keep_bytes = 1 << 30
    """If the values together are larger than this, the next ones are read and replaced by TOO_MUCH."""
    replies: Sequence[Reply] = ()
    error: "StoreError | None" = None


class TooMuch:
    """Takes the place of a value that was fetched and not kept."""


TOO_MUCH = TooMuch()
