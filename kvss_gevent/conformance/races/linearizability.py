"""Tells whether a concurrent history of requests for keys is linearizable, deadlines included (rule 15).

The algorithm is Wing and Gong's search with Lowe's cache of configurations already seen, key by key, for keys are
independent objects: take any operation that began before every other open one ended, if the value at hand allows its
outcome, and go on from there; a history is linearizable if all operations can be taken so.

A deadline lies between those that its request and its reply would have set. An operation that may lie behind it may
find the key absent, and then so do those taken after it; one that began behind the latest one must.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import inf

from kvss_gevent.protocol.wire import READING_VERBS, Verb

State = tuple[bytes, float, float] | None
"""A value with the earliest and the latest time of its deadline; None where the key is absent."""

STORING_VERBS = frozenset({Verb.PUT, Verb.PUTEX})

UNKNOWN = inf
"""The end of an operation without an acknowledgement: it may have taken effect at any time, or never."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One request as its client saw it; times are of one clock, in any unit.

    value: what a PUT or PUTEX stores. found: what a GET returned. was_there: whether any other found the key, None
    where its reply does not tell.
    lasts: the time to live that a PUTEX or EXPIRE gives, in the unit of the clock.
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
    # A GET without a reply says nothing. Of the others without, any number may be left out of the order.
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


def _steps(  # noqa: PLR0913, PLR0917 - a configuration is a bare tuple: there are a million of them
    known: list[Operation], open_ended: list[Operation], first: int, taken: int, used: int, state: State
) -> list[tuple[int, int, int, State]]:
    """Return the configurations one operation further.

    A configuration is the first known operation that is not taken, which of those behind it are taken (bit 0 is the
    first), which open-ended ones are used, and the state.
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
                    return [step]  # it changes nothing, now or later, so to take it now cannot be wrong
                steps.append(step)
    for number, operation in enumerate(open_ended):
        if operation.began > earliest_end:
            break
        if not used >> number & 1:
            more = used | 1 << number
            steps += [(first, taken, more, _after(operation, before)) for before in _states(operation, state)]
    return steps


def _states(operation: Operation, state: State) -> Iterator[State]:
    """Yield what an operation may meet: the state, and nothing where its value may have ended by then."""
    if state is None or operation.began < state[2]:
        yield state
    if state is not None and operation.ended >= state[1]:
        yield None


def _fits(operation: Operation, state: State) -> bool:
    """Tell whether an operation may have had its outcome on a state."""
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
