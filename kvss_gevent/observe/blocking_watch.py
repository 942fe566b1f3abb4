"""A thread that looks whether the event loop still turns, and logs where it is held while it is held.

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

LOOKS: Final = 4
"""In the time from which on the loop counts as held: a hold is told at most a quarter of that late."""
SHORTEST_LOOK_S: Final = 0.002
PAUSE_S: Final = 1.0
"""Between two lines of the log."""
CALLS: Final = 8
"""Of a stack are shown, the innermost first."""


class BlockingWatch:
    """Watches the loop of the thread that makes it, from a thread of its own.

    Told of a hold is one line, as soon as the loop has not turned for held_ms.
    """

    def __init__(self, held_ms: int, loop: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self._held_s = held_ms / 1000
        self._loop, self._clock = loop, clock
        self._thread = threading.get_ident()
        self._turn = -1
        self._since_s = clock()
        self._told = False
        self._logged_s = float("-inf")
        self._stopped = threading.Lock()
        self._stopped.acquire()

    def start(self) -> None:
        """Begin to watch."""
        threading.Thread(target=self._run, name="kvss-watch-blocking", daemon=True).start()

    def stop(self) -> None:
        """End the thread; to be called once."""
        self._stopped.release()

    def _run(self) -> None:
        look_s = max(self._held_s / LOOKS, SHORTEST_LOOK_S)
        # A lock, as an Event makes a new one for each wait.
        while not self._stopped.acquire(timeout=look_s):
            self.look(lambda: sys._current_frames().get(self._thread))

    def look(self, find_frame: Callable[[], FrameType | None]) -> None:
        """Look once; find_frame returns where the loop's thread is now."""
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
