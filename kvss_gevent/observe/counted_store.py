"""A store whose answers are counted by command and status.

GETs that sessions answer from the table, and PUTs with which they replace what is there, never come here and cost
nothing. Their numbers are those of all commands, or all PUTs, minus the counted ones.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from kvss_gevent.observe.shared_figures import REPLIES
from kvss_gevent.protocol.wire import LINE, PUT, Status, Verb
from kvss_gevent.stores.base import Batch, Put, Run, Store

OnWait = Callable[[int, int, Batch, int], object]
"""Called after each call of a store that may wait: its begin and end in ns, its batch, and turns of the loop."""

PLACES: Sequence[dict[bytes, int]] = [
    {LINE[status]: REPLIES[verb.name, status] for status in Status} if verb else {} for verb in (None, *Verb)
]
"""By command: the place of each whole reply line. A line that is not there is a 200 with data."""
FOUND: Sequence[int] = [REPLIES[verb.name, Status.OK] if verb else 0 for verb in (None, *Verb)]


class CountedStore:
    """Counts the answers of another store. counts has a counter for each of REPLIES."""

    def __init__(self, store: Store, counts: list[int], loop: Any, on_wait: OnWait) -> None:
        self.replies, self.blocks = store.replies, store.blocks
        self.run = self._counting(store.run, counts) if store.run else None
        self.put = self._counting_puts(store.put, counts) if store.put else None
        self.failed_s = float("-inf")
        """When a command last failed, on the monotonic clock."""
        self._store, self._counts, self._loop, self._on_wait = store, counts, loop, on_wait

    def _counting(self, run: Run, counts: list[int]) -> Run:
        places, found = PLACES, FOUND
        failed = LINE[Status.SERVER_ERROR]

        def counted(verb: int, key: bytes, value: bytes) -> bytes:
            try:
                reply = run(verb, key, value)
            except Exception:
                self.failed_s = time.monotonic()
                counts[places[verb][failed]] += 1
                raise
            counts[places[verb].get(reply, found[verb])] += 1
            return reply

        return counted

    def _counting_puts(self, put: Put, counts: list[int]) -> Put:
        places = PLACES[PUT]

        def counted(request: bytes, reply: bytes) -> bytes:
            try:
                answer = put(request, reply)
            except Exception:
                self.failed_s = time.monotonic()
                counts[places[LINE[Status.SERVER_ERROR]]] += 1
                raise
            counts[places[answer]] += 1
            return answer

        return counted

    def apply(self, batch: Batch, limit_bytes: int) -> list[bytes]:
        """Run commands in order; see Store."""
        counts, failed = self._counts, LINE[Status.SERVER_ERROR]
        began_ns, turn = time.monotonic_ns(), self._loop.iteration
        try:
            answers = self._store.apply(batch, limit_bytes)
        except Exception:
            answers = [failed] * len(batch)
            raise
        finally:
            if self.blocks:
                self._on_wait(began_ns, time.monotonic_ns(), batch, self._loop.iteration - turn)
            for (verb, _, _), reply in zip(batch, answers, strict=False):
                counts[PLACES[verb].get(reply, FOUND[verb])] += 1
            if failed in answers:
                self.failed_s = time.monotonic()
        return answers

    def count(self) -> int:
        """Return the number of keys stored."""
        return self._store.count()

    def close(self) -> None:
        """Close the store below."""
        self._store.close()
