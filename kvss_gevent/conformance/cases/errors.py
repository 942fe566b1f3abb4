"""Errors: exactly which phrase, and that the connection goes on behind it (rules 6 and 11)."""

from functools import partial
from typing import Final

from kvss_gevent.conformance.case import Case, ask, pipeline

_case = partial(Case, group="errors", rule=6)

_OPEN = "An error is a reply like any other: send it and read on; do not close or leave the loop."
_PHRASE = "A reply is exactly its code and phrase: with the underscore, without an explanation behind it."

CASES: Final = (
    _case(
        id="phrase-400",
        rule=11,
        title="A bad request is exactly 400 BAD_REQUEST",
        steps=ask(b"KV/1.0 PUT keyonly", b"400 BAD_REQUEST"),
        hint=_PHRASE,
    ),
    _case(
        id="phrase-404",
        rule=11,
        title="A missing key is exactly 404 NOT_FOUND",
        steps=ask(b"KV/1.0 GET {k}", b"404 NOT_FOUND"),
        hint=_PHRASE,
    ),
    _case(
        id="phrase-426",
        rule=11,
        title="A wrong version is exactly 426 UPGRADE_REQUIRED",
        steps=ask(b"KV/3.0 GET {k}", b"426 UPGRADE_REQUIRED"),
        hint=_PHRASE,
    ),
    _case(
        id="open-after-400",
        points=2,
        title="The connection goes on after 400",
        steps=(*ask(b"KV/1.0 PUT {k}", b"400 BAD_REQUEST"), *ask(b"KV/1.0 PUT {k} v", b"201 CREATED")),
        hint=_OPEN,
    ),
    _case(
        id="open-after-404",
        title="The connection goes on after 404",
        steps=(*ask(b"KV/1.0 GET {k}", b"404 NOT_FOUND"), *ask(b"KV/1.0 PUT {k} v", b"201 CREATED")),
        hint=_OPEN,
    ),
    _case(
        id="open-after-426",
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
        title="A refused PUT leaves the old value alone",
        steps=(
            *ask(b"KV/1.0 PUT {k} old", b"201 CREATED"),
            *ask(b"KV/1.0 PUT {k} ", b"400 BAD_REQUEST"),
            *ask(b"KV/1.0 GET {k}", b"200 OK old"),
        ),
        hint="Check the whole request before changing anything.",
    ),
)
