"""Keys that expire (rule 15), an extension of the course document: these cases run only if the group is named."""

import re
from functools import partial
from typing import Final

from kvss_gevent.conformance.case import Case, Pause, ask

_case = partial(Case, group="expiry", rule=15)

_LEFT: Final = re.compile(rb"200 OK (?:[1-9]|[1-9]\d|100)")
"""The reply to TTL within 100 s after a PUTEX or EXPIRE of 100."""
_ENDING_S: Final = 1.2

_SECONDS = "Seconds are decimal digits, 1 to 1000000000; anything else is 400 BAD_REQUEST."
_ENDED = "Check the deadline in every command: an expired key is the same as a missing key."

CASES: Final = (
    _case(
        id="putex",
        title="PUTEX stores a value as PUT does",
        steps=(
            *ask(b"KV/1.0 PUTEX 100 {k} two  words ", b"201 CREATED"),
            *ask(b"KV/1.0 GET {k}", b"200 OK two  words "),
            *ask(b"KV/1.0 PUTEX 100 {k} new", b"200 OK"),
            *ask(b"KV/1.0 GET {k}", b"200 OK new"),
        ),
        hint="The value is everything after the one space that follows the key; 201 for a new key, 200 for a replaced "
        "value.",
    ),
    _case(
        id="ttl",
        title="TTL tells the seconds left, -1 or 404",
        steps=(
            *ask(b"KV/1.0 TTL {k}", b"404 NOT_FOUND"),
            *ask(b"KV/1.0 PUT {k} v", b"201 CREATED"),
            *ask(b"KV/1.0 TTL {k}", b"200 OK -1"),
            *ask(b"KV/1.0 EXPIRE {k} 100", b"200 OK"),
            *ask(b"KV/1.0 TTL {k}", _LEFT),
        ),
        hint="Round the seconds left up, so that an existing key never has 0.",
    ),
    _case(
        id="persist",
        title="PERSIST and PUT make a key permanent",
        steps=(
            *ask(b"KV/1.0 PUTEX 100 {k} v", b"201 CREATED"),
            *ask(b"KV/1.0 PERSIST {k}", b"200 OK"),
            *ask(b"KV/1.0 TTL {k}", b"200 OK -1"),
            *ask(b"KV/1.0 EXPIRE {k} 100", b"200 OK"),
            *ask(b"KV/1.0 PUT {k} w", b"200 OK"),
            *ask(b"KV/1.0 TTL {k}", b"200 OK -1"),
            *ask(b"KV/1.0 PERSIST {k}", b"200 OK"),
            *ask(b"KV/1.0 GET {k}", b"200 OK w"),
        ),
        hint="Remove the deadline and keep the value; PUT removes the deadline too.",
    ),
    _case(
        id="expiry-missing",
        title="EXPIRE and PERSIST of a missing key are 404 NOT_FOUND",
        steps=(
            *ask(b"KV/1.0 EXPIRE {k} 100", b"404 NOT_FOUND"),
            *ask(b"KV/1.0 PERSIST {k}", b"404 NOT_FOUND"),
            *ask(b"KV/1.0 GET {k}", b"404 NOT_FOUND"),
        ),
        hint="They change an existing key and create none.",
    ),
    *(
        _case(
            id=f"seconds-{name}",
            title=f"{shown} seconds are 400 BAD_REQUEST",
            steps=(
                *ask(b"KV/1.0 PUTEX " + word + b" {k} v", b"400 BAD_REQUEST"),
                *ask(b"KV/1.0 PUT {k} v", b"201 CREATED"),
                *ask(b"KV/1.0 EXPIRE {k} " + word, b"400 BAD_REQUEST"),
                *ask(b"KV/1.0 TTL {k}", b"200 OK -1"),
            ),
            hint=_SECONDS,
        )
        for name, word, shown in (
            ("zero", b"0", "0"),
            ("negative", b"-5", "-5"),
            ("fraction", b"1.5", "1.5"),
            ("word", b"soon", "'soon'"),
            ("huge", b"1000000001", "1000000001"),
        )
    ),
    _case(
        id="expiry-arguments",
        title="Missing and extra arguments are 400 BAD_REQUEST",
        steps=tuple(
            step
            for line in (
                b"KV/1.0 PUTEX",
                b"KV/1.0 PUTEX 5 {k}",
                b"KV/1.0 EXPIRE {k}",
                b"KV/1.0 EXPIRE {k} 5 6",
                b"KV/1.0 TTL",
                b"KV/1.0 TTL {k} {k}",
                b"KV/1.0 PERSIST",
            )
            for step in ask(line, b"400 BAD_REQUEST")
        ),
        hint="Count the arguments before anything else.",
    ),
    _case(
        id="key-ends",
        title="A key exists until its deadline; after it, every command finds the key missing",
        steps=(
            *ask(b"KV/1.0 PUTEX 1 {k} v", b"201 CREATED"),
            Pause(_ENDING_S),
            *ask(b"KV/1.0 GET {k}", b"404 NOT_FOUND"),
            *ask(b"KV/1.0 TTL {k}", b"404 NOT_FOUND"),
            *ask(b"KV/1.0 DEL {k}", b"404 NOT_FOUND"),
            *ask(b"KV/1.0 PERSIST {k}", b"404 NOT_FOUND"),
            *ask(b"KV/1.0 PUT {k} new", b"201 CREATED"),
        ),
        hint=_ENDED,
        points=2,
    ),
    _case(
        id="key-does-not-end",
        title="A key whose deadline was moved or taken away does not end at the old one",
        steps=(
            *ask(b"KV/1.0 PUTEX 1 {k} v", b"201 CREATED"),
            *ask(b"KV/1.0 EXPIRE {k} 100", b"200 OK"),
            *ask(b"KV/1.0 PUTEX 1 {k}-2 v", b"201 CREATED"),
            *ask(b"KV/1.0 PUT {k}-2 w", b"200 OK"),
            Pause(_ENDING_S),
            *ask(b"KV/1.0 GET {k}", b"200 OK v"),
            *ask(b"KV/1.0 GET {k}-2", b"200 OK w"),
        ),
        hint="A key has one deadline, the last one that was set, or none.",
    ),
)
