"""Watches each turn of the event loop: how long it takes, whatever runs in it.

A turn begins when the loop has waited for events, and ends right before it waits again. The two watchers cost 0.3 us a
turn. A turn answers all clients that have sent something, so with 50 of them a request pays a tenth or less of that.
libev's own time of the begin, `loop.now()`, would spare one of the watchers. But gevent sets it anew after its
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


def watch_turns(loop: Any, limit_s: float, stats: Counters, on_long: OnLongTurn) -> Callable[[], None]:
    """Call on_long at the end of each turn that took longer than limit_s. stats counts the requests.

    Returns a function that ends the watch. The turn in which it begins is not watched: the server may still be
    starting.
    """
    now = time.monotonic
    # Variables of a function, because attributes of an object would cost a tenth more.
    began_s, answered = math.inf, 0

    def begin() -> None:
        nonlocal began_s, answered
        answered = stats.commands
        began_s = now()

    def end() -> None:
        if now() - began_s > limit_s:
            on_long(began_s, now(), stats.commands - answered)

    # The first of all that runs in a turn, and the last.
    watchers = loop.check(ref=False, priority=loop.MAXPRI), loop.prepare(ref=False, priority=loop.MINPRI)
    for watcher, call in zip(watchers, (begin, end), strict=True):
        watcher.start(call)

    def stop() -> None:
        for watcher in watchers:
            watcher.stop()
            watcher.close()

    return stop
