"""Limits warnings that strangers can cause as often as they like."""

import logging
import time

logger = logging.getLogger("kvss")


class RareLog:
    """Logs at most one warning in interval_s, with the number of warnings left out before it."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._left_out = 0
        self._logged_s = float("-inf")

    def warn(self, form: str, *values: object) -> None:
        """Log a warning, or count it as left out."""
        now_s = time.monotonic()
        if now_s - self._logged_s < self._interval_s:
            self._left_out += 1
            return
        more = f" ({self._left_out} more since the last such line)" if self._left_out else ""
        self._logged_s, self._left_out = now_s, 0
        logger.warning(form + "%s", *values, more)
