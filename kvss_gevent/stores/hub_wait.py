"""How a greenlet waits for something that is not its socket: it leaves the hub the word to wake it.

gevent's own Event and Waiter cost as much as the rest of a request. A wait here is one switch to the hub and one back.
Whoever waits must look again at what it waits for after each return: it may have been woken for something else.
"""

from collections.abc import Callable
from types import MethodType
from typing import Any

from gevent.hub import get_hub
from greenlet import getcurrent, greenlet


def hub_switch() -> Callable[[], Any]:
    """Return what suspends the current greenlet and lets the hub of this thread run, until somebody switches back.

    Hub.switch would first look for a hook on the current greenlet, which a raw greenlet has not.
    """
    return MethodType(greenlet.switch, get_hub())


class Wait:
    """One wait of the greenlet that makes it, for what was asked; its outcome comes once, from the hub."""

    __slots__ = ("asked", "greenlet", "outcome")

    def __init__(self, asked: Any = None) -> None:
        self.asked = asked
        self.greenlet: greenlet | None = getcurrent()
        self.outcome: Any = None
        """None until it is over."""

    def finish(self, outcome: Any) -> None:
        """Leave the outcome and wake the greenlet, which runs at once; later outcomes are dropped."""
        if self.outcome is None:
            self.outcome = outcome
            if self.greenlet is not None:
                self.greenlet.switch()
