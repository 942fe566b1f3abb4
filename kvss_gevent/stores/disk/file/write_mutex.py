"""Looks at the mutex that one writer of a data file holds, because LMDB waits for it without a bound.

LMDB can neither try the mutex nor wait for a limited time. So a store looks at it before a transaction begins. The
mutex is a robust one of the C library, in the lock file: its first word is the number of the thread that holds it, and
0 while nobody does. The kernel clears the number when that thread's process dies.
"""

import mmap
import time
from collections.abc import Callable, Sequence

THREAD_MASK = 0x3FFFFFFF
"""The bits of the first word that are the thread's number. The others say that somebody waits, or that it has died."""
PLACES = (64, 128)
"""Where LMDB 0.9 has the mutex: after a head of one or two cache lines. This is right for mutexes of 40 or 48 bytes."""
KIND_AT = 16
LAST_COMMIT_AT = {64: 48, 128: 56}
"""By the mutex's place: where LMDB has the number of the last transaction that was committed."""
ROBUST_AND_SHARED = 0x90
"""What a mutex of LMDB has at KIND_AT with the GNU C library on 64-bit Linux."""

LONGEST_PAUSE_S = 0.001
"""The longest pause between two looks. The first pauses are shorter: most transactions end within 0.1 ms."""


class WriteMutex:
    """The mutex in an open lock file. Without the GNU C library, it looks as if nobody held it.

    Close it after LMDB: that drops LMDB's own locks on the file, too.
    """

    def __init__(self, descriptor: int) -> None:
        self._map = mmap.mmap(descriptor, 2 * PLACES[-1], prot=mmap.PROT_READ)
        self._words = memoryview(self._map).cast("I")
        self._longs = memoryview(self._map).cast("Q")
        place = next((at for at in PLACES if self._words[(at + KIND_AT) // 4] == ROBUST_AND_SHARED), None)
        self.word: Sequence[int] = self._words[place // 4 :] if place else (0,)
        """Its first element is 0 while nobody holds the mutex."""
        self.last_commit: Sequence[int] = self._longs[LAST_COMMIT_AT[place] // 8 :] if place else (0,)
        """Its first element is what a read transaction would have for its number; 0 if that is not known."""
        self._stuck: tuple[int, int] | None = None

    def is_stuck(self, last_commit: Callable[[], int], held_s: float) -> bool:
        """Wait while another process holds the mutex; tell whether one transaction has held it for held_s.

        last_commit returns the number of the last transaction that was committed. After one wait was too long, the
        same transaction is not waited for again.
        """
        held = self._look(last_commit)
        until_s = time.monotonic() + held_s
        pause_s = 1e-6
        while held is not None and held != self._stuck:
            if time.monotonic() >= until_s:
                self._stuck = held
                break
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            if self._look(last_commit) != held:
                return False
        return held is not None

    def _look(self, last_commit: Callable[[], int]) -> tuple[int, int] | None:
        """Return which transaction holds the mutex: its thread, and the commit before it; None if none does."""
        thread = self.word[0] & THREAD_MASK
        return (thread, last_commit()) if thread else None

    def close(self) -> None:
        """Close the map of the lock file."""
        self.word = self.last_commit = (0,)
        self._words.release()
        self._longs.release()
        self._map.close()
