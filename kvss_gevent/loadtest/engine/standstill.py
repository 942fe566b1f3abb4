"""Notices when this process stood still: it was stopped, had no CPU, or was long busy in one piece of code.

A request that was under way or due in such a time waited for the generator, and not for the server.
"""

import gevent

from kvss_gevent.loadtest.engine.clock import clock
from kvss_gevent.measure.process_usage import cpu_wait_s

BEAT_S = 0.01
LEAST_S = 0.025
"""A heartbeat that is at least so late is a standstill. One round with a thousand ready connections takes as long."""
_MOST_KEPT = 1000


class StandstillWatch:
    """A heartbeat in the event loop, and the times in which it stopped."""

    __slots__ = ("_beat", "_cpu_wait_s", "found", "greenlet", "last_end")

    def __init__(self) -> None:
        self.found: list[tuple[float, float, float]] = []
        """(begin, end, seconds spent waiting for a CPU); in a long run only the last ones."""
        self.last_end = 0.0
        self._beat = clock()
        self._cpu_wait_s = cpu_wait_s()
        self.greenlet = gevent.spawn(self._beating)

    def look(self, now: float) -> None:
        """Note a standstill that has just ended, if there was one; `now` is a time of clock()."""
        begin = self._beat + BEAT_S
        self._beat = now
        if now - begin >= LEAST_S:
            waited_s = cpu_wait_s()
            self.found.append((begin, now, min(max(waited_s - self._cpu_wait_s, 0.0), now - begin)))
            del self.found[:-_MOST_KEPT]
            self._cpu_wait_s = waited_s
            self.last_end = now

    def overlap_s(self, begin: float, end: float) -> float:
        """Return how long the process stood still between two times; `end` may be now."""
        if end - begin < LEAST_S:
            return self._sum(begin, end) if begin < self.last_end else 0.0
        self.look(clock())
        return self._sum(begin, end)

    def total_s(self, begin: float, end: float) -> tuple[float, float, float]:
        """Return how long the process stood still in a time: in all, at most at once, and waiting for a CPU."""
        cut = [(min(e, end) - max(b, begin), waited) for b, e, waited in self.found]
        cut = [(length_s, min(waited, length_s)) for length_s, waited in cut if length_s >= LEAST_S]
        return sum(s for s, _ in cut), max((s for s, _ in cut), default=0.0), sum(waited for _, waited in cut)

    def _sum(self, begin: float, end: float) -> float:
        total_s = 0.0
        for b, e, _ in reversed(self.found):
            if e <= begin:
                break
            total_s += max(min(e, end) - max(b, begin), 0.0)
        return total_s

    def _beating(self) -> None:
        while True:
            for _ in range(25):
                gevent.sleep(BEAT_S)
                self.look(clock())
            self._cpu_wait_s = cpu_wait_s()
