"""Starts and ends the processes of the models that fork. The models fork and prefork say what they do."""

import ctypes
import logging
import os
import signal
import sys
import time
from collections.abc import Callable

logger = logging.getLogger("kvss")

GRACE_S = 3.0
"""The time for children to end before they are killed."""

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

SET_PARENT_DEATH_SIGNAL = 1


class Children:
    """The processes that this one has forked and that still run, as far as it knows."""

    def __init__(self) -> None:
        self.pids: set[int] = set()

    def start(self, work: Callable[[], None]) -> None:
        """Fork a child that does its work and ends. Raises OSError where the machine has no room for one."""
        parent = os.getpid()
        # An exception of a signal handler is lost while Python forks, so signals are blocked until then.
        old_mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            pid = os.fork()
            if pid:
                self.pids.add(pid)
                return
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes; the parent ends its children
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, old_mask)
        code = 1
        try:
            end_with(parent)
            work()
            code = 0
        except SystemExit:
            pass  # it has printed why
        except BaseException:
            logger.exception("an error in this server ends a process")
        finally:
            # Not sys.exit: the child must not run the clean-up code on the parent's stack.
            os._exit(code)

    def reap(self) -> None:
        """Collect the children that have ended, without waiting. Until then each is a zombie."""
        while self.pids and (pid := os.waitpid(-1, os.WNOHANG)[0]):
            self.pids.discard(pid)

    def wait(self) -> None:
        """Wait until a child ends."""
        self.pids.discard(os.wait()[0])

    def end(self) -> None:
        """Tell all children to stop, and kill those that have not within GRACE_S."""
        deadline_s = time.monotonic() + GRACE_S
        self._signal(signal.SIGTERM)
        while self.pids and time.monotonic() < deadline_s:
            self.reap()
            time.sleep(0.005)
        if self.pids:
            logger.warning("%d processes did not stop within %g s and were killed", len(self.pids), GRACE_S)
        self._signal(signal.SIGKILL)
        while self.pids:
            self.wait()

    def _signal(self, number: int) -> None:
        for pid in self.pids:
            os.kill(pid, number)


def end_with(parent: int) -> None:
    """Ask the kernel to end this process when its parent dies for any reason; on Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)  # the parent was dead already
