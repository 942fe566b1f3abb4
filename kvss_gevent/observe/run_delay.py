"""For how long this process was ready to run and had no core, as Linux counts it."""

import os


def run_delay_ns() -> int:
    """Return nanoseconds since the process began; 0 on a system that does not tell. Of its first thread: the loop's."""
    try:
        descriptor = os.open("/proc/self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        return int(os.read(descriptor, 100).split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    finally:
        os.close(descriptor)
