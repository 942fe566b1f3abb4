"""Watches each turn of the event loop: how long it takes, whatever runs in it.

A turn begins when the loop has waited for events, and ends right before it waits again. The two watchers cost 0.3 to
0.4 us a turn. A turn answers all clients that have sent something, so with 50 of them a request pays a tenth or less of
that. libev's own time of the begin, `loop.now()`, would spare one of the watchers. But gevent sets it anew after its
callbacks, and then nobody can say how long they took.
"""

import math
import time
from collections.abc import Callable
from typing import Any

from kvss_gevent.core.conversation import Counters

OnLongTurn = Callable[[float, float, int], None]
"""Told of a turn: its begin and its end on the monotonic clock, and how many requests were answered in it."""


def can_watch_turns(loop: Any) -> bool:
    """Tell whether a loop can be watched: libev can. libuv, gevent's loop for Windows, answers clients as it polls."""
    return bool(loop.MINPRI < loop.MAXPRI)


class TurnWatch:
    """Calls on_long at the end of each turn that took longer than limit_s. stats counts the requests.

    The turn in which it is made is not watched: the server may still be starting.
    """

    __slots__ = ("_answered", "_began_s", "_begin", "_end", "_limit_s", "_on_long", "_stats")

    def __init__(self, loop: Any, limit_s: float, stats: Counters, on_long: OnLongTurn) -> None:
        self._limit_s, self._stats, self._on_long = limit_s, stats, on_long
        self._began_s, self._answered = math.inf, 0
        # The first of all that runs in a turn, and the last.
        self._begin = loop.check(ref=False, priority=loop.MAXPRI)
        self._end = loop.prepare(ref=False, priority=loop.MINPRI)
        self._begin.start(self._begin_turn)
        self._end.start(self._end_turn)

    def _begin_turn(self) -> None:
        self._answered = self._stats.commands
        self._began_s = time.monotonic()

    def _end_turn(self) -> None:
        if time.monotonic() - self._began_s > self._limit_s:
            self._on_long(self._began_s, time.monotonic(), self._stats.commands - self._answered)

    def stop(self) -> None:
        """Stop watching."""
        for watcher in (self._begin, self._end):
            watcher.stop()
            watcher.close()
