"""The connections of each address, counted in memory that several worker processes share. No locks, no files.

Each worker has a table of its own, which only it writes. All workers read all tables and add up. So an address has the
same bounds with many workers as with one. Two workers that accept a client at the same moment do not see each other's.
So an address may exceed its bound by one connection for each further worker.
"""

import mmap
from collections.abc import Sequence

WAYS = 8
"""Addresses in a row of the table. The hash of an address gives its row, so it is found at once."""
ROWS = 1 << 14
KEYS, OPEN, INTERVALS, LATELY = range(0, 4 * WAYS, WAYS)
"""Where a row has its columns: the hash of an address, its open connections, an interval, connections opened in it."""
ROW = 4 * WAYS
WORD_BYTES = 8


class AddressCounts:
    """The counts as one worker sees them: it writes its own table, and reads all.

    Time is divided into short intervals, with the same numbers in all workers. Memory for 131,072 addresses is
    reserved, 4 MiB for a worker. A page of it is taken when it is first written.
    """

    def __init__(self, tables: Sequence[memoryview], number: int) -> None:
        self._tables = tables
        self._own = tables[number]

    def totals(self, address: str, interval: int) -> tuple[int, int]:
        """Return how many connections of an address are open, and how many were opened in the interval."""
        key, row = _key_and_row(address)
        opened = lately = 0
        for table in self._tables:
            if (place := _find(table, row, key)) is not None:
                opened += table[place + OPEN]
                if table[place + INTERVALS] == interval:
                    lately += table[place + LATELY]
        return opened, lately

    def opened(self, address: str, interval: int) -> bool:
        """Count a new connection; return False where no room is left, because too many addresses are connected."""
        key, row = _key_and_row(address)
        table = self._own
        place = _find(table, row, key)
        if place is None:
            place = self._take_place(row, key, interval)
            if place is None:
                return False
        if table[place + INTERVALS] != interval:
            table[place + LATELY] = 0
            table[place + INTERVALS] = interval
        table[place + OPEN] += 1
        table[place + LATELY] += 1
        return True

    def closed(self, address: str) -> None:
        """Count the end of a connection that opened() has counted."""
        key, row = _key_and_row(address)
        place = _find(self._own, row, key)
        if place is not None:
            self._own[place + OPEN] -= 1

    def clear(self) -> None:
        """Forget all of a worker whose process is gone."""
        self._own[:] = memoryview(bytes(self._own.nbytes)).cast("Q")

    def _take_place(self, row: int, key: int, interval: int) -> int | None:
        """Return a place without open connections for a new address, if possible one without connections lately."""
        table = self._own
        free = [place for place in range(row, row + WAYS) if not table[place + OPEN]]
        if not free:
            return None
        place = min(free, key=lambda one: table[one + INTERVALS] == interval)
        table[place + LATELY] = 0
        table[place + KEYS] = key
        return place


def address_counts(workers: int) -> tuple[AddressCounts, ...]:
    """Return the counts of each worker; to be called before they are forked, so that all hash addresses alike."""
    size = ROWS * ROW
    words = memoryview(mmap.mmap(-1, workers * size * WORD_BYTES)).cast("Q")
    tables = [words[number * size : (number + 1) * size] for number in range(workers)]
    return tuple(AddressCounts(tables, number) for number in range(workers))


def _key_and_row(address: str) -> tuple[int, int]:
    """Return the hash of an address, which strangers cannot foresee, and where its row begins."""
    key = hash(address) % (1 << 64)
    return key, key % ROWS * ROW


def _find(table: memoryview, row: int, key: int) -> int | None:
    keys = table[row : row + WAYS].tolist()
    return row + keys.index(key) if key in keys else None
