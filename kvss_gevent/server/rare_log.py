"""Limits warnings that strangers can cause as often as they like."""

import logging

logger = logging.getLogger("kvss")


class RareLog:
    """Logs warnings of which the log shows one of each form in interval_s; see BoundedHandler."""

    def __init__(self, interval_s: float) -> None:
        self._bound = {"interval_s": interval_s}

    def warn(self, form: str, *values: object) -> None:
        """Log a warning."""
        logger.warning(form, *values, extra=self._bound)
