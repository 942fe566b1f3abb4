"""How a greenlet waits for something that is not its socket: it is woken by the hub.

gevent's own Event and Waiter cost as much as the rest of a request. A wait here is one switch to the hub and one back.
After each return a waiting greenlet must check its condition again: it may have been woken for something else.
"""

from collections.abc import Callable
from typing import Any

from gevent.hub import get_hub
from greenlet import greenlet as Greenlet


def hub_switch() -> Callable[[], Any]:
    """Return a function that suspends the current greenlet and runs this thread's hub until somebody switches back.

    Hub.switch would first look for a hook on the current greenlet. A raw greenlet has none.
    """
    switch: Callable[[], Any] = Greenlet.switch.__get__(get_hub())
    return switch


class Wait:
    """One wait of a greenlet. The hub sets its outcome once.

    The maker sets the attributes: an __init__ would be one more call for every write.
    """

    __slots__ = ("asked", "greenlet", "outcome")

    asked: Any
    greenlet: Greenlet | None
    """The greenlet that waits; None after it has stopped waiting."""
    outcome: Any
    """None until it is over."""

    def finish(self, outcome: Any) -> None:
        """Set the outcome and wake the greenlet, which runs at once. Later outcomes are dropped."""
        if self.outcome is None:
            self.outcome = outcome
            if self.greenlet is not None:
                self.greenlet.switch()
