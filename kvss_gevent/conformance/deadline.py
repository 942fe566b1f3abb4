"""The time until which a case waits for the server."""

import time


class Deadline:
    """The time at which a case gives up."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._end = time.monotonic() + timeout_s

    def left_s(self) -> float:
        """Return the seconds left, at least 1 ms: a timeout of 0 makes a socket non-blocking."""
        return max(0.001, self._end - time.monotonic())

    def passed(self) -> bool:
        """Tell whether the deadline has passed."""
        return time.monotonic() >= self._end

    def pause(self, seconds: float) -> None:
        """Sleep, and move the deadline by the same time."""
        self.extend(seconds)
        time.sleep(seconds)

    def extend(self, seconds: float) -> None:
        """Move the deadline."""
        self._end += seconds
