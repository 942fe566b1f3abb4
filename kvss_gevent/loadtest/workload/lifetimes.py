"""When a value that was written with a time to live may have ended, and when it must have (rule 15).

A key's deadline is its write's time at the server, which lies between request and reply, plus the time to live. Where
it is not known which of several writes counts, the earliest may and the latest must: the check is then weaker for the
key, and never wrong.
"""

import time
from collections.abc import Callable


class Lifetimes:
    """The writes of one process's keys. late_s: how long a reply may be under way; clock returns seconds."""

    def __init__(self, ttl_s: int, late_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._ttl_s = ttl_s
        self._late_s = late_s
        self._clock = clock
        self._group_s: dict[int, float] = {}
        """When the first of the writes of a key was sent that are under way at the same time, or were last."""
        self._since_s: dict[int, float] = {}
        """When the oldest write was sent whose value may still be the key's; none where no write had a time to live."""
        self._answered_s: dict[int, float] = {}

    def begun(self, key: int, alone: bool) -> None:
        """Note that a write is being sent; alone tells that no other of the key is under way."""
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
        """Tell whether a reply of now may truly say that the key's value has ended."""
        since_s = self._since_s.get(key)
        return since_s is not None and self._clock() >= since_s + self._ttl_s

    def must_have_ended(self, key: int) -> bool:
        """Tell whether the value of the last answered write had ended when a GET was sent that is answered now."""
        answered_s = self._answered_s.get(key)
        return answered_s is not None and self._clock() > answered_s + self._ttl_s + self._late_s
