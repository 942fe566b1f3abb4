"""Starts servers as processes that a test signals itself."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

GET = b"KV/1.0 GET a\n"
LIMIT_S = 15.0


@contextmanager
def process(*args: str, **options: object) -> Iterator["subprocess.Popen[bytes]"]:
    """Run `kvss serve` and end it with the block."""
    command = [sys.executable, "-m", "kvss_gevent", "serve", *args]
    with subprocess.Popen(command, stdout=subprocess.PIPE, **options) as running:  # type: ignore[call-overload]
        try:
            yield running
        finally:
            running.kill()


def wait_for_end(running: "subprocess.Popen[bytes]", number: int = signal.SIGTERM) -> int:
    """Send a signal and return the exit code."""
    running.send_signal(number)
    return running.wait(LIMIT_S)
