"""An event: one call of a conversation that has ended, or one thing that happened inside it.

An event is noted once, when it has ended, as a plain tuple: an object of a class costs three times as much as all the
rest. A reader of events (a ring, a flight recorder) is a function that takes such a tuple.
"""

from collections.abc import Callable
from enum import IntEnum
from typing import Any

HEAD_BYTES = 64
"""How many of the received bytes an event holds: enough for a verb and a key of usual length."""


class What(IntEnum):
    """What happened. The first three are calls of a conversation; the others happened inside or outside of them."""

    OPEN = 1
    """A conversation was made: bytes_in is the kernel's id of the thread, bytes_out that of the process."""
    RECEIVE = 2
    """`receive`: bytes_in were received, bytes_out returned; head is the first bytes received."""
    PROCEED = 3
    """`proceed`: the next slice of a long pipeline."""
    STORE = 4
    """A store that may wait ran a batch; bytes_in is the number of commands."""
    COMPUTE = 5
    """The laboratory's BURN."""
    BLOCK = 6
    """The laboratory's SLEEP: the thread waited in a blocking call."""
    FORK = 7
    """This process forked another one."""
    BORN = 8
    """This process was forked; the event ends when its first statement runs."""


Stamp = Any
"""A time: nanoseconds of the monotonic clock; or a tuple of these, the thread's CPU time and its run delay, in ns."""

Event = tuple[What, int, Stamp, Stamp, int, int, bytes]
"""(what, conversation, began, ended, bytes_in, bytes_out, head).

conversation is a number that is unique in its process; 0 if there is none.
"""

Note = Callable[[Event], None]
"""A reader of events. It is called in the thread that serves the conversation: it must be quick and must not raise."""

Clock = Callable[[], Stamp]
