"""Knows when a value with a time to live may have expired, and when it must have expired (rule 15).

The server runs a write at some time between its request and its reply. The key's deadline is this time plus the time
to live. If several writes are in question, the value may have expired after the earliest deadline, and must have
expired after the latest. So the check can be weaker than possible, but it is never wrong.
"""

import time
from collections.abc import Callable


class Lifetimes:
    """The writes of one process's keys. late_s: how long a reply can take at most; clock returns seconds."""

    def __init__(self, ttl_s: int, late_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._ttl_s = ttl_s
        self._late_s = late_s
        self._clock = clock
        self._group_s: dict[int, float] = {}
        """When the first write was sent of those that are, or last were, under way at the same time."""
        self._since_s: dict[int, float] = {}
        """When the oldest write was sent whose value may still be stored; no entry if no write had a time to live."""
        self._answered_s: dict[int, float] = {}

    def begun(self, key: int, alone: bool) -> None:
        """Note that a write is being sent. alone: no other write of the key is under way."""
        if alone:
            self._group_s[key] = self._clock()
        self._since_s.setdefault(key, self._group_s[key])

    def superseded(self, key: int) -> None:
        """Note that all writes before those under way are superseded."""
        self._since_s[key] = self._group_s[key]

    def answered(self, key: int) -> None:
        """Note that a write has been answered."""
        self._answered_s[key] = self._clock()

    def may_have_ended(self, key: int) -> bool:
        """Tell whether a reply may correctly say now that the key's value has expired."""
        since_s = self._since_s.get(key)
        return since_s is not None and self._clock() >= since_s + self._ttl_s

    def must_have_ended(self, key: int) -> bool:
        """Tell whether the value of the last answered write had expired when a GET was sent that is answered now."""
        answered_s = self._answered_s.get(key)
        return answered_s is not None and self._clock() > answered_s + self._ttl_s + self._late_s
