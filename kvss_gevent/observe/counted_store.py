"""A store whose answers are counted by command and status.

Requests that sessions answer from the table never come here and cost nothing. Their number is that of all commands
minus the counted ones.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from kvss_gevent.observe.shared_figures import REPLIES
from kvss_gevent.protocol.wire import LINE, PUT, Status, Verb
from kvss_gevent.stores.base import Batch, PutAll, Run, Store

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
        self.put_all = self._counting_all(store.put_all, counts) if store.put_all else None
        self.failed_s = float("-inf")
        """When a command last failed, on the monotonic clock."""
        self._store, self._counts, self._loop, self._on_wait = store, counts, loop, on_wait

    def _counting(self, run: Run, counts: list[int]) -> Run:
        places, found = PLACES, FOUND
        failed, ok = LINE[Status.SERVER_ERROR], LINE[Status.OK]
        replaced = REPLIES["PUT", Status.OK]

        def counted(verb: int, key: bytes, value: bytes) -> bytes:
            try:
                reply = run(verb, key, value)
            except Exception:
                self.failed_s = time.monotonic()
                counts[places[verb][failed]] += 1
                raise
            if reply is ok and verb is PUT:  # the most frequent command; the general way would cost 60 ns more
                counts[replaced] += 1
            else:
                counts[places[verb].get(reply, found[verb])] += 1
            return reply

        return counted

    def _counting_all(self, put_all: PutAll, counts: list[int]) -> PutAll:
        statuses = (Status.CREATED, Status.OK, Status.SERVER_ERROR)
        created, replaced, failed = (REPLIES["PUT", status] for status in statuses)

        def counted(entries: dict[bytes, bytes], asked: int) -> list[bytes] | None:
            try:
                replies = put_all(entries, asked)
            except Exception:
                self.failed_s = time.monotonic()
                counts[failed] += asked
                raise
            if replies is not None:
                new = replies.count(LINE[Status.CREATED])
                counts[created] += new
                counts[replaced] += asked - new
            return replies

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
