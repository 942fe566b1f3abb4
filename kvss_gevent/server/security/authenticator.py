"""Checks passwords on a thread beside the event loop, and limits how many each address may try (rule 12).

To check a password costs 40 ms of CPU. A guess waits for the other guesses of its address, and for its turn at the
thread. After a wrong guess of the same address it also waits for a time, which grows. So right passwords are checked as
fast as the thread can, and a client that guesses too often sees only that replies come later.
"""

import os
import sys
import threading
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import gevent
from gevent.event import Event
from gevent.lock import BoundedSemaphore
from gevent.threadpool import ThreadPool

from kvss_gevent.core.user_file import User, Users

GUESSES_PER_S: Final = 10
"""The most wrong guesses of one address that are checked. All workers together have this limit."""
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


@dataclass(slots=True)
class _Guesser:
    """An address that guesses. failures: in a row. next_s: when its next guess may be checked. seen_s: its last guess.

    turn: held by the one guess of this address that is checked or will be next.
    """

    failures: int = 0
    next_s: float = 0.0
    seen_s: float = 0.0
    turn: BoundedSemaphore = field(default_factory=lambda: BoundedSemaphore(1))

    def fail(self, now_s: float) -> None:
        """Count a wrong password, and put the next guess off."""
        self.failures += 1
        if self.failures > FREE_FAILURES:
            delay_s = min(FIRST_DELAY_S * 2 ** min(self.failures - FREE_FAILURES - 1, 10), LONGEST_DELAY_S)
            self.next_s = max(self.next_s, now_s + delay_s)


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
        self._guessers: OrderedDict[str, _Guesser] = OrderedDict()
        """By address; whoever guessed last is last."""

    def authenticate(self, address: str, name: bytes, password: bytes) -> User | None:
        """Return the user, or None. Lets other greenlets run meanwhile."""
        asked_s = time.monotonic()
        latest_s = asked_s + LONGEST_WAIT_S
        gevent.sleep(0)  # whoever waits already comes before the next guess of the same client
        guesser = self._guesser(address, asked_s)
        with guesser.turn:  # the guesses of an address wait here in order, a greenlet each
            wait_s = min(guesser.next_s, latest_s) - time.monotonic()
            if wait_s > 0:
                self._drains.wait(wait_s)
            if guesser.next_s > latest_s:
                return None
            guesser.next_s = time.monotonic() + self._interval_s
            with self._turn:  # one guess of each address waits here
                if self._drains.is_set() or time.monotonic() > latest_s:
                    return None
                user: User | None = self._pool.apply(_check, (self.users, name, password))
            if user and not self.users.knows(user):
                user = None  # it was removed or changed meanwhile
            if user:
                guesser.failures, guesser.next_s = 0, 0.0  # only wrong guesses make the next one wait
            else:
                guesser.fail(time.monotonic())
            return user

    def _guesser(self, address: str, now_s: float) -> "_Guesser":
        guesser = self._guessers.setdefault(address, _Guesser())
        if now_s - guesser.seen_s > FORGET_S:
            guesser.failures = 0
        guesser.seen_s = now_s
        self._guessers.move_to_end(address)
        while len(self._guessers) > MOST_ADDRESSES:
            self._guessers.popitem(last=False)
        return guesser

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
