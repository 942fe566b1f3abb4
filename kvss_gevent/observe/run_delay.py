"""How long this process was ready to run and had no core, as Linux counts it."""

import os


class RunDelay:
    """The run delay of the first thread of this process, which runs the loop."""

    def __init__(self) -> None:
        self._descriptor = -1
        try:
            # It stays open: opening it for each reading would take three times as long as all the rest.
            self._descriptor = os.open("/proc/self/schedstat", os.O_RDONLY)
        except OSError:
            pass  # not Linux

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def ns(self) -> int:
        """Return nanoseconds since the process began; 0 on a system that does not tell."""
        try:
            return int(os.pread(self._descriptor, 100, 0).split()[1])
        except (AttributeError, OSError, ValueError, IndexError):  # Windows has no pread
            return 0
