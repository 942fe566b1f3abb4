"""Errors: the exact phrases, and that the connection stays open after them (rules 6 and 11)."""

from functools import partial
from typing import Final

from kvss_gevent.conformance.case import Case, Expect, Habit, Leave, Send, Source, Step, ask, pipeline

_case = partial(Case, group="errors", rule=6)

_OPEN = "An error is a reply like any other: send it and go on reading; do not close and do not leave the loop."


def _each(habit: Habit) -> tuple[Step, ...]:
    """Cause each phrase on its own connection, because a server may close after an error."""
    exchanges = (
        (b"KV/1.0 PUT {k} v", b"201 CREATED"),
        (b"KV/1.0 DEL {k}", b"204 NO_CONTENT"),
        (b"KV/1.0 GET {k}", b"404 NOT_FOUND"),
        (b"KV/1.0 PUT keyonly", b"400 BAD_REQUEST"),
        (b"KV/3.0 GET {k}", b"426 UPGRADE_REQUIRED"),
    )
    return tuple(
        step
        for number, (line, reply) in enumerate(exchanges, 1)
        for step in (Send(line + b"\n", f"{number}"), Expect((reply,), f"{number}", habit), Leave(f"{number}"))
    )


CASES: Final = (
    _case(
        id="phrase-spelling",
        source=Source.COURSE,
        habit=Habit.SPELLING,
        rule=11,
        points=2,
        title="Each phrase is spelled as in the table of replies, with its underscore",
        steps=_each(Habit.SPELLING),
        hint="Write each phrase once as a constant: 404 NOT_FOUND, not 404 Not Found.",
    ),
    _case(
        id="phrase-alone",
        source=Source.COURSE,
        habit=Habit.TEXT,
        rule=11,
        points=2,
        title="Nothing follows the phrases 201, 204, 400, 404 and 426",
        steps=_each(Habit.TEXT),
        hint="A reply is its code and phrase. Only 200 OK may have data after it.",
    ),
    _case(
        id="phrase-replaced",
        habit=Habit.TEXT,
        rule=11,
        title="Nothing follows the 200 OK of a PUT",
        steps=(
            *ask(b"KV/1.0 PUT {k} v", b"201 CREATED"),
            Send(b"KV/1.0 PUT {k} w\n"),
            Expect((b"200 OK",), strict=Habit.TEXT),
        ),
        hint="The course's documents do not forbid it, but a client that expects a value after 200 OK takes the text "
        "for one.",
    ),
    _case(
        id="open-after-400",
        source=Source.README,
        points=2,
        title="The connection goes on after 400",
        steps=(*ask(b"KV/1.0 PUT {k}", b"400 BAD_REQUEST"), *ask(b"KV/1.0 PUT {k} v", b"201 CREATED")),
        hint=_OPEN,
    ),
    _case(
        id="open-after-404",
        source=Source.README,
        title="The connection goes on after 404",
        steps=(*ask(b"KV/1.0 GET {k}", b"404 NOT_FOUND"), *ask(b"KV/1.0 PUT {k} v", b"201 CREATED")),
        hint=_OPEN,
    ),
    _case(
        id="open-after-426",
        source=Source.README,
        title="The connection goes on after 426",
        steps=(*ask(b"KV/9.9 GET {k}", b"426 UPGRADE_REQUIRED"), *ask(b"KV/1.0 PUT {k} v", b"201 CREATED")),
        hint=_OPEN,
    ),
    _case(
        id="errors-in-pipeline",
        title="Errors in the middle of a pipeline cost their own line only",
        steps=pipeline(
            (b"KV/1.0 PUT {k} v", b"KV/1.0 GET", b"KV/1.0 GET {k}", b"GET {k}", b"KV/1.0 GET {k}"),
            (b"201 CREATED", b"400 BAD_REQUEST", b"200 OK v", b"426 UPGRADE_REQUIRED", b"200 OK v"),
        ),
        hint=_OPEN,
    ),
    _case(
        id="refused-put",
        source=Source.README,
        title="A refused PUT leaves the old value alone",
        steps=(
            *ask(b"KV/1.0 PUT {k} old", b"201 CREATED"),
            *ask(b"KV/1.0 PUT {k} ", b"400 BAD_REQUEST"),
            *ask(b"KV/1.0 GET {k}", b"200 OK old"),
        ),
        hint="Check the whole request before changing anything.",
    ),
)
