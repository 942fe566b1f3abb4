"""A thread that checks whether the event loop still turns. While it is held, the thread logs where.

The thread sees the stack of the loop's thread. A loop that waits for events is in the hub's own `run`; it is not held.
"""

import logging
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from gevent.hub import Hub

logger = logging.getLogger("kvss")

LOOKS: Final = 2
"""Checks within the time after which the loop counts as held: a hold is logged at most half of it late. On a busy
server a check costs 50 us or more: the thread takes processor and caches from the loop."""
SHORTEST_LOOK_S: Final = 0.002
PAUSE_S: Final = 1.0
"""The shortest time between two lines of the log."""
CALLS: Final = 8
"""Calls of a stack that are shown, the innermost first."""


class LookThread:
    """A thread that calls look every look_s, until it is stopped."""

    def __init__(self, name: str, look_s: float, look: Callable[[], None]) -> None:
        self._name, self._look_s, self._look = name, look_s, look
        self._stopped = threading.Lock()
        self._stopped.acquire()

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name=self._name, daemon=True).start()

    def stop(self) -> None:
        """End the thread; to be called once."""
        self._stopped.release()

    def _run(self) -> None:
        # A lock, because an Event makes a new one for each wait.
        while not self._stopped.acquire(timeout=self._look_s):
            self._look()


class BlockingWatch:
    """Watches the event loop of the thread that makes it, from another thread.

    A hold gets one line in the log, as soon as the loop has not turned for held_ms.
    """

    def __init__(self, held_ms: int, loop: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self._held_s = held_ms / 1000
        self._loop, self._clock = loop, clock
        self._watched = threading.get_ident()
        self._turn = -1
        self._since_s = clock()
        self._told = False
        self._logged_s = float("-inf")
        look_s = max(self._held_s / LOOKS, SHORTEST_LOOK_S)
        self._thread = LookThread("kvss-watch-blocking", look_s, lambda: self.look(self._frame))
        self.start, self.stop = self._thread.start, self._thread.stop

    def _frame(self) -> FrameType | None:
        return sys._current_frames().get(self._watched)

    def look(self, find_frame: Callable[[], FrameType | None]) -> None:
        """Check once; find_frame returns the present frame of the loop's thread."""
        turn, now_s = self._loop.iteration, self._clock()
        if turn != self._turn:
            self._turn, self._since_s, self._told = turn, now_s, False
            return
        frame = find_frame()
        if frame is None or frame.f_code is Hub.run.__code__:
            self._since_s, self._told = now_s, False
        elif now_s - self._since_s >= self._held_s and not self._told and now_s - self._logged_s >= PAUSE_S:
            self._told, self._logged_s = True, now_s
            logger.warning("the loop is held for %.0f ms so far, by %s", (now_s - self._since_s) * 1000, stack(frame))


def stack(frame: FrameType | None) -> str:
    """Return a stack in one line, the innermost call first."""
    calls: list[str] = []
    while frame is not None and len(calls) < CALLS:
        code = frame.f_code
        calls.append(f"{code.co_qualname} ({'/'.join(code.co_filename.split('/')[-2:])}:{frame.f_lineno})")
        frame = frame.f_back
    return " < ".join(calls)
