"""Takes turns with other processes at a file or a directory."""

import time
from typing import Final

LIMIT_S: Final = 5.0
"""A program that keeps such a lock for longer does so to hold up others."""
LOOK_S: Final = 0.01


def take_turn(descriptor: int, limit_s: float = LIMIT_S) -> None:
    """Lock an open file or directory until it is closed. Raises OSError if another process keeps it for limit_s."""
    import fcntl  # imported here, so that server and client run on systems without it

    deadline_s = time.monotonic() + limit_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline_s:
                raise
            time.sleep(LOOK_S)
        else:
            return
