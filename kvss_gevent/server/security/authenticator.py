"""Checks passwords on a thread beside the event loop, and limits how many each address may try (rule 12).

To check a password costs 40 ms of CPU. A guess waits for its turn at the thread. After wrong guesses of the same
address it also waits for a time, which grows. A client that guesses too often sees only that replies come later.
"""

import os
import sys
import threading
import time
from collections import OrderedDict
from contextlib import suppress
from typing import Final

from gevent.event import Event
from gevent.lock import BoundedSemaphore
from gevent.threadpool import ThreadPool

from kvss_gevent.core.user_file import User, Users

GUESSES_PER_S: Final = 10
"""The most guesses of one address that are checked. All workers together have this limit."""
FREE_FAILURES: Final = 3
"""Wrong passwords of an address without a delay. After them the delay doubles, from FIRST_DELAY_S."""
FIRST_DELAY_S: Final = 0.1
LONGEST_DELAY_S: Final = 5.0
LONGEST_WAIT_S: Final = 10.0
"""A guess that has waited this long is answered without a check. By then a client must have logged in (rule 14), so
nobody waits for the answer. So guesses of clients that are gone delay nobody."""
FORGET_S: Final = 60.0
"""After this time without a failure an address starts again without a delay."""
MOST_ADDRESSES: Final = 10_000
NICE: Final = 10
"""By how much the thread is nicer than the event loop. If both share a processor, a busy loop gets 90 % of it.

Without it, an honest client's p99 was 60 to 220 ms beside a flood of guesses, and with it 12 ms
(`python -m bench.safety.attack`).
"""


class Authenticator:
    """Checks names and passwords against the users. The users may be replaced at any time.

    workers: the number of processes that check guesses. Each of them checks its part of GUESSES_PER_S, so a crowd of
    connections guesses no faster if there are more workers. Wrong guesses delay the next ones of the same worker.
    """

    def __init__(self, users: Users, workers: int = 1) -> None:
        self.users = users
        self._interval_s = workers / GUESSES_PER_S
        # One thread: hashing for all strangers takes at most one processor, so other clients have the rest.
        self._pool = ThreadPool(1)
        self._turn = BoundedSemaphore(1)
        self._drains = Event()
        self._seen: OrderedDict[str, tuple[int, float, float]] = OrderedDict()
        """By address: failures in a row, when the next guess may be checked, when it was last seen."""

    def authenticate(self, address: str, name: bytes, password: bytes) -> User | None:
        """Return the user, or None. Lets other greenlets run meanwhile."""
        asked_s = time.monotonic()
        if not self._wait_for_address(address):
            return None
        with self._turn:  # the others wait here in order, a greenlet each
            if self._drains.is_set() or time.monotonic() - asked_s > LONGEST_WAIT_S:
                return None
            user: User | None = self._pool.apply(_check, (self.users, name, password))
        if user and not self.users.knows(user):
            user = None  # it was removed or changed meanwhile
        failures, next_s, _ = self._seen.get(address, (0, 0.0, 0.0))
        now_s = time.monotonic()
        failures = 0 if user else failures + 1
        if failures > FREE_FAILURES:
            delay_s = min(FIRST_DELAY_S * 2 ** min(failures - FREE_FAILURES - 1, 10), LONGEST_DELAY_S)
            next_s = max(next_s, now_s + delay_s)
        self._note(address, failures, next_s, now_s)
        return user

    def _wait_for_address(self, address: str) -> bool:
        """Wait for the turn of a guess; return whether its turn came."""
        now_s = time.monotonic()
        failures, next_s, seen_s = self._seen.get(address, (0, 0.0, 0.0))
        if now_s - seen_s > FORGET_S:
            failures, next_s = 0, 0.0
        turn_s = max(now_s, next_s)
        if turn_s - now_s > LONGEST_WAIT_S:
            self._drains.wait(LONGEST_WAIT_S)
            return False
        self._note(address, failures, turn_s + self._interval_s, now_s)
        return turn_s <= now_s or not self._drains.wait(turn_s - now_s)

    def _note(self, address: str, failures: int, next_s: float, now_s: float) -> None:
        self._seen[address] = failures, next_s, now_s
        self._seen.move_to_end(address)
        while len(self._seen) > MOST_ADDRESSES:
            self._seen.popitem(last=False)

    def drain(self) -> None:
        """Refuse at once all guesses that wait or come later: the server ends, and their clients wait for an answer."""
        self._drains.set()

    def close(self) -> None:
        """End the thread."""
        self._pool.kill()


def _check(users: Users, name: bytes, password: bytes) -> User | None:
    """Check a password on the thread, which gives way to the event loop."""
    if sys.platform == "linux":  # on other systems this call sets no thread's priority
        loop, thread = os.getpid(), threading.get_native_id()
        if thread != loop:
            with suppress(OSError):  # not allowed: the priority stays as it is
                os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, loop) + NICE)
    return users.authenticate(name, password)
