"""Tells whether a concurrent history of PUT, GET and DEL is linearizable.

The algorithm is Wing and Gong's search with Lowe's cache of configurations already seen, key by key, for keys are
independent objects: take any operation that began before every other open one ended, if the value at hand allows its
outcome, and go on from there; a history is linearizable if all operations can be taken so.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf

from kvss_gevent.protocol.wire import Verb

UNKNOWN = inf
"""The end of an operation without an acknowledgement: it may have taken effect at any time, or never."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One request as its client saw it; times are of one clock, in any unit.

    value: what a PUT stores. found: what a GET returned. was_there: whether PUT replaced or DEL removed something.
    """

    verb: Verb
    key: bytes
    began: float
    ended: float
    value: bytes = b""
    found: bytes | None = None
    was_there: bool = False


def violations(history: Iterable[Operation]) -> list[bytes]:
    """Return the keys whose operations no order explains; none for a linearizable history. All keys begin absent."""
    by_key: defaultdict[bytes, list[Operation]] = defaultdict(list)
    for operation in history:
        by_key[operation.key].append(operation)
    return [key for key, operations in by_key.items() if not is_linearizable(operations)]


def is_linearizable(history: Sequence[Operation]) -> bool:
    """Tell whether some order of one key's operations explains all outcomes; the key begins absent."""
    # A GET without a reply says nothing. Of the others without, any number may be left out of the order.
    known = sorted((o for o in history if o.ended != UNKNOWN), key=lambda o: o.began)
    open_ended = sorted((o for o in history if o.ended == UNKNOWN and o.verb is not Verb.GET), key=lambda o: o.began)
    todo: list[tuple[int, int, int, bytes | None]] = [(0, 0, 0, None)]
    seen = set(todo)
    while todo:
        first, taken, used, value = todo.pop()
        if first == len(known):
            return True
        for step in _steps(known, open_ended, first, taken, used, value):
            if step not in seen:
                seen.add(step)
                todo.append(step)
    return False


def _steps(  # noqa: PLR0913, PLR0917 - a configuration is a bare tuple: there are a million of them
    known: list[Operation], open_ended: list[Operation], first: int, taken: int, used: int, value: bytes | None
) -> list[tuple[int, int, int, bytes | None]]:
    """Return the configurations one operation further.

    A configuration is the first known operation that is not taken, which of those behind it are taken (bit 0 is the
    first), which open-ended ones are used, and the value.
    """
    steps = []
    earliest_end = inf
    for offset, operation in enumerate(known[first:]):
        if operation.began > earliest_end:
            break
        if taken >> offset & 1:
            continue
        earliest_end = min(earliest_end, operation.ended)
        allowed, after = _run(operation, value)
        if not allowed:
            continue
        step = (*_take(first, taken, offset), used, after)
        if after == value and operation.verb is not Verb.PUT:
            return [step]  # it changes nothing, now or later, so to take it now cannot be wrong
        steps.append(step)
    for number, operation in enumerate(open_ended):
        if operation.began > earliest_end:
            break
        if not used >> number & 1:
            steps.append((first, taken, used | 1 << number, operation.value if operation.verb is Verb.PUT else None))
    return steps


def _run(operation: Operation, value: bytes | None) -> tuple[bool, bytes | None]:
    """Return whether an operation may have had its outcome on this value, and the value afterwards."""
    if operation.verb is Verb.GET:
        return operation.found == value, value
    allowed = operation.was_there == (value is not None)
    return allowed, operation.value if operation.verb is Verb.PUT else None


def _take(first: int, taken: int, offset: int) -> tuple[int, int]:
    taken |= 1 << offset
    while taken & 1:
        first += 1
        taken >>= 1
    return first, taken
