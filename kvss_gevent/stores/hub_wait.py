"""How a greenlet waits for something that is not its socket: it leaves the hub the word to wake it.

gevent's own Event and Waiter cost as much as the rest of a request. A wait here is one switch to the hub and one back.
Whoever waits must look again at what it waits for after each return: it may have been woken for something else.
"""

from collections.abc import Callable
from types import MethodType
from typing import Any

from gevent.hub import get_hub
from greenlet import greenlet as Greenlet


def hub_switch() -> Callable[[], Any]:
    """Return what suspends the current greenlet and lets the hub of this thread run, until somebody switches back.

    Hub.switch would first look for a hook on the current greenlet, which a raw greenlet has not.
    """
    return MethodType(Greenlet.switch, get_hub())


class Wait:
    """One wait of a greenlet; its outcome comes once, from the hub.

    Whoever makes one fills it in: an __init__ would be one more call for every write.
    """

    asked: Any = None
    greenlet: Greenlet | None = None
    """Who waits; None once it no longer does."""
    outcome: Any = None
    """None until it is over."""

    def finish(self, outcome: Any) -> None:
        """Leave the outcome and wake the greenlet, which runs at once; later outcomes are dropped."""
        if self.outcome is None:
            self.outcome = outcome
            if self.greenlet is not None:
                self.greenlet.switch()
