"""Concurrency: many clients at the same moment, and one that does not read (rules 1 and 7)."""

from functools import partial
from typing import Final

from kvss_gevent.conformance.case import Case, Expect, Pause, Race, Send, Source, ask

_case = partial(Case, group="concurrency", rule=7, source=Source.README, alone=True, patience=2)

_LOCK = "Check and change under one lock: hold it from the check to the change."

CASES: Final = (
    _case(
        id="race-put",
        points=2,
        title="When ten clients PUT one new key at the same time, exactly one gets 201",
        steps=(Race("created"),),
        hint=_LOCK,
    ),
    _case(
        id="race-del",
        points=2,
        title="When ten clients DEL one key at the same time, exactly one gets 204",
        steps=(Race("deleted"),),
        hint=_LOCK,
    ),
    _case(
        id="race-own-replies",
        points=2,
        title="When ten clients GET ten keys at the same time, each gets its own value",
        steps=(Race("own-replies"),),
        hint="Keep buffers in local variables or in the connection, never in a variable that all threads share.",
    ),
    _case(
        id="race-own-keys",
        title="When ten clients PUT ten keys at the same time, all ten values are stored",
        steps=(Race("own-keys"),),
        hint="Change the shared map under a lock; do not copy it, change the copy and put it back.",
    ),
    _case(
        id="race-torn",
        title="A GET during a PUT returns a whole value",
        steps=(Race("whole-values"),),
        hint="Build the new value first, then put it in place in one step.",
    ),
    _case(
        id="race-history",
        points=2,
        title="Some order of the requests of four clients explains all replies",
        steps=(Race("history"),),
        hint="Answer from the one shared store, under one lock; a cache may return old values.",
    ),
    _case(
        id="deaf-client",
        points=2,
        title="A client that does not read its replies does not keep another one waiting",
        steps=(
            *ask(b"KV/1.0 PUT {k} {x100000}", b"201 CREATED"),
            Send(b"KV/1.0 GET {k}\n" * 200, on="deaf"),
            Pause(0.2),
            *ask(b"KV/1.0 GET {k}-no", b"404 NOT_FOUND"),
            Send(b"KV/1.0 GET {k}-b\n", on="b"),
            Expect((b"404 NOT_FOUND",), on="b"),
        ),
        hint="send() waits when a client does not read: never hold the lock of the store while sending.",
    ),
)
