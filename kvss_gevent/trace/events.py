"""What an event is: one call at the session seam that has ended, or one thing that happened inside of it.

An event is noted once, when it is over, as a plain tuple: to build an object of a class would cost three times as much
as all the rest. Whoever reads events (a ring, a slow log, a flight recorder) is a function that takes such a tuple.
"""

from collections.abc import Callable
from enum import IntEnum
from typing import Any

HEAD_BYTES = 64
"""How much of what was received an event carries: enough for a verb and a key that is not long."""


class What(IntEnum):
    """What took place. The first three are calls of a conversation; the others happened inside one or beside them."""

    OPEN = 1
    """A conversation was made: bytes_in is the thread's id as the kernel knows it, bytes_out the process's."""
    RECEIVE = 2
    """`receive`: bytes_in were given, bytes_out were returned, head is the begin of what was given."""
    PROCEED = 3
    """`proceed`: the next slice of a long pipeline."""
    STORE = 4
    """A store that may wait ran a batch; bytes_in is the number of commands."""
    COMPUTE = 5
    """The laboratory's BURN."""
    BLOCK = 6
    """The laboratory's SLEEP: the thread waited in a call that knows of nobody else."""
    FORK = 7
    """This process made another one."""
    BORN = 8
    """This process was made: it ended when its first statement ran."""


Stamp = Any
"""A time: nanoseconds of the monotonic clock, or (those, CPU nanoseconds of the thread, its run delay)."""

Event = tuple[What, int, Stamp, Stamp, int, int, bytes]
"""(what, conversation, began, ended, bytes_in, bytes_out, head).

conversation is a number that is used once in a process, 0 where there is none.
"""

Note = Callable[[Event], None]
"""A reader of events. It is called in the thread that serves the conversation: it must be quick and must not raise."""

Clock = Callable[[], Stamp]
