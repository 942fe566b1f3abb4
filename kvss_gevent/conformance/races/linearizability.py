"""Tells whether a concurrent history of requests for keys is linearizable, deadlines included (rule 15).

The algorithm is the search of Wing and Gong with Lowe's cache of configurations already seen. It checks each key
alone, because keys are independent objects. Each step takes an operation that began before every other open operation
ended, if the present value allows its outcome. A history is linearizable if all operations can be taken in this way.

A deadline lies between the one that the begin of its request sets and the one that the end of its reply sets. An
operation that may come after the deadline may find the key absent; then all operations taken after it do so too. An
operation that began after the latest possible deadline must find the key absent.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import inf

from kvss_gevent.protocol.wire import READING_VERBS, Verb

State = tuple[bytes, float, float] | None
"""A value with the earliest and the latest time of its deadline; None if the key is absent."""

STORING_VERBS = frozenset({Verb.PUT, Verb.PUTEX})

UNKNOWN = inf
"""The end of an operation without a reply: it may have taken effect at any time, or never."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One request as its client saw it. All times are of one clock, in any unit.

    value: what a PUT or PUTEX stores. found: what a GET returned. was_there: whether another command found the key,
    None if its reply does not say. lasts: the time to live that a PUTEX or EXPIRE sets.
    """

    verb: Verb
    key: bytes
    began: float
    ended: float
    value: bytes = b""
    found: bytes | None = None
    was_there: bool | None = False
    lasts: float = inf


def violations(history: Iterable[Operation]) -> list[bytes]:
    """Return the keys whose operations no order explains; none for a linearizable history. All keys begin absent."""
    by_key: defaultdict[bytes, list[Operation]] = defaultdict(list)
    for operation in history:
        by_key[operation.key].append(operation)
    return [key for key, operations in by_key.items() if not is_linearizable(operations)]


def is_linearizable(history: Sequence[Operation]) -> bool:
    """Tell whether some order of one key's operations explains all outcomes; the key begins absent."""
    # A GET without a reply says nothing. Any number of other operations without a reply may be left out of the order.
    known = sorted((o for o in history if o.ended != UNKNOWN), key=lambda o: o.began)
    open_ended = sorted(
        (o for o in history if o.ended == UNKNOWN and o.verb not in READING_VERBS), key=lambda o: o.began
    )
    todo: list[tuple[int, int, int, State]] = [(0, 0, 0, None)]
    seen = set(todo)
    while todo:
        first, taken, used, state = todo.pop()
        if first == len(known):
            return True
        for step in _steps(known, open_ended, first, taken, used, state):
            if step not in seen:
                seen.add(step)
                todo.append(step)
    return False


def _steps(  # noqa: PLR0913, PLR0917 - a configuration is a plain tuple, because there are a million of them
    known: list[Operation], open_ended: list[Operation], first: int, taken: int, used: int, state: State
) -> list[tuple[int, int, int, State]]:
    """Return the configurations after one more operation.

    A configuration is: the index of the first known operation that is not taken, which operations from there on are
    taken (bit 0 is the first), which open-ended operations are used, and the state.
    """
    steps = []
    earliest_end = inf
    for offset, operation in enumerate(known[first:]):
        if operation.began > earliest_end:
            break
        if taken >> offset & 1:
            continue
        earliest_end = min(earliest_end, operation.ended)
        for before in _states(operation, state):
            if _fits(operation, before):
                after = _after(operation, before)
                step = (*_take(first, taken, offset), used, after)
                if after == state and operation.verb not in STORING_VERBS:
                    return [step]  # it never changes anything, so taking it now cannot be wrong
                steps.append(step)
    for number, operation in enumerate(open_ended):
        if operation.began > earliest_end:
            break
        if not used >> number & 1:
            more = used | 1 << number
            steps += [(first, taken, more, _after(operation, before)) for before in _states(operation, state)]
    return steps


def _states(operation: Operation, state: State) -> Iterator[State]:
    """Yield the states that an operation may find: the state, and None if its value may have expired by then."""
    if state is None or operation.began < state[2]:
        yield state
    if state is not None and operation.ended >= state[1]:
        yield None


def _fits(operation: Operation, state: State) -> bool:
    """Tell whether an operation's outcome is possible on a state."""
    if operation.verb is Verb.GET:
        return operation.found == (None if state is None else state[0])
    return operation.was_there in (None, state is not None)


def _after(operation: Operation, state: State) -> State:
    """Return the state after an operation."""
    match operation.verb:
        case Verb.PUT:
            return operation.value, inf, inf
        case Verb.PUTEX:
            return operation.value, operation.began + operation.lasts, operation.ended + operation.lasts
        case Verb.DEL:
            return None
        case Verb.EXPIRE if state is not None:
            return state[0], operation.began + operation.lasts, operation.ended + operation.lasts
        case Verb.PERSIST if state is not None:
            return state[0], inf, inf
    return state


def _take(first: int, taken: int, offset: int) -> tuple[int, int]:
    taken |= 1 << offset
    while taken & 1:
        first += 1
        taken >>= 1
    return first, taken
