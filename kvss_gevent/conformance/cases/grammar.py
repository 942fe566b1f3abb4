"""Grammar: which lines are requests and which are refused with 400 BAD_REQUEST (rule 6)."""

from functools import partial
from typing import Final

from kvss_gevent.conformance.case import Case, Leave, Source, Step, ask

_case = partial(Case, group="grammar", rule=6)

_SPLIT = "Split the line at each single space; split() without an argument accepts lines that must be refused."
_COUNT = "Check that each command has exactly its number of words."
_UPPER = "Compare the command as it was received; do not change its case first."

_REFUSED: Final = (
    ("unknown-command", b"KV/1.0 INVALID command", "An unknown command is refused", _COUNT),
    ("no-command", b"KV/1.0", "A version without a command is refused", _COUNT),
    ("empty-command", b"KV/1.0 ", "A version and a space, without a command, is refused", _COUNT),
    ("lower-case-get", b"KV/1.0 get {k}", "Commands are upper case: get is refused", _UPPER),
    ("lower-case-del", b"KV/1.0 del {k}", "Commands are upper case: del is refused", _UPPER),
    ("lower-case-stats", b"KV/1.0 stats", "Commands are upper case: stats is refused", _UPPER),
    ("lower-case-quit", b"KV/1.0 quit", "Commands are upper case: quit is refused", _UPPER),
    ("mixed-case-put", b"KV/1.0 Put {k} v", "Commands are upper case: Put is refused", _UPPER),
    ("get-no-key", b"KV/1.0 GET", "GET without a key is refused", _COUNT),
    ("get-empty-key", b"KV/1.0 GET ", "GET with an empty key is refused", _SPLIT),
    ("get-surplus", b"KV/1.0 GET {k} {k}", "GET with two keys is refused", _COUNT),
    ("get-trailing-space", b"KV/1.0 GET {k} ", "A space after the key of GET is refused", _SPLIT),
    ("put-nothing", b"KV/1.0 PUT", "PUT without a key is refused", _COUNT),
    ("put-no-value", b"KV/1.0 PUT {k}", "PUT without a value is refused", _COUNT),
    ("put-empty-value", b"KV/1.0 PUT {k} ", "PUT with an empty value is refused", _SPLIT),
    ("put-empty-key", b"KV/1.0 PUT  v", "PUT with an empty key is refused", _SPLIT),
    ("del-no-key", b"KV/1.0 DEL", "DEL without a key is refused", _COUNT),
    ("del-surplus", b"KV/1.0 DEL {k} {k}", "DEL with two keys is refused", _COUNT),
    ("stats-surplus", b"KV/1.0 STATS now", "STATS with an argument is refused", _COUNT),
    ("quit-surplus", b"KV/1.0 QUIT now", "QUIT with an argument is refused", _COUNT),
    ("stats-trailing-space", b"KV/1.0 STATS ", "A space after STATS is refused", _SPLIT),
    ("two-spaces-command", b"KV/1.0  GET {k}", "Two spaces before the command are refused", _SPLIT),
    ("two-spaces-key", b"KV/1.0 GET  {k}", "Two spaces before the key are refused", _SPLIT),
    ("tab-command", b"KV/1.0 GET\t{k}", "A tab does not separate a command from its key", _SPLIT),
)

_OWN: Final = {"get-trailing-space", "stats-surplus", "quit-surplus", "stats-trailing-space"}
"""Cases that the course's documents do not decide."""


_STORED: Final = {"get-surplus", "del-surplus", "two-spaces-key"}
"""Cases that use an existing key: a wrong reply then shows which key was looked up."""


def _source(name: str) -> Source:
    return Source.PROJECT if name in _OWN else Source.COURSE


def _steps(name: str, line: bytes) -> tuple[Step, ...]:
    before = ask(b"KV/1.0 PUT {k} v", b"201 CREATED") if name in _STORED else ()
    return *before, *ask(line, b"400 BAD_REQUEST")


CASES: Final = (
    *(
        _case(id=name, title=title, steps=_steps(name, line), hint=hint, source=_source(name))
        for name, line, title, hint in _REFUSED
    ),
    _case(
        id="whole-commands",
        source=Source.COURSE,
        title="A command is a whole word: GETS, DELETE, PUTS and STATSX are refused",
        steps=tuple(
            step
            # Each on its own connection: only another case requires that a connection stays open after an error.
            for name, line in zip("abcd", (b"GETS {k}", b"DELETE {k}", b"PUTS {k} v", b"STATSX"), strict=True)
            for step in (*ask(b"KV/1.0 " + line, b"400 BAD_REQUEST", on=name), Leave(on=name))
        ),
        hint="Compare the whole command, not its first letters: strcmp(), not strncmp().",
    ),
    _case(
        id="tab-in-key",
        title="A tab is part of a key, not a separator",
        steps=(*ask(b"KV/1.0 PUT {k}\tz v", b"201 CREATED"), *ask(b"KV/1.0 GET {k}\tz", b"200 OK v")),
        hint=_SPLIT,
    ),
    _case(
        id="no-break-space-in-key",
        title="Of all spaces only U+0020 separates: U+00A0 and U+3000 are part of a key",
        steps=(
            *ask("KV/1.0 PUT {k}\u00a0y\u3000z v".encode(), b"201 CREATED"),
            *ask("KV/1.0 GET {k}\u00a0y\u3000z".encode(), b"200 OK v"),
        ),
        hint="split() of a str cuts at every Unicode space: use split(' ').",
    ),
)
