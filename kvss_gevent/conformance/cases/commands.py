"""Commands: PUT, GET and DEL with all their outcomes, and what keys and values may be (rules 1 and 7)."""

from functools import partial
from typing import Final

from kvss_gevent.conformance.case import Case, Expect, Habit, Leave, Send, Source, Step, ask

_case = partial(Case, group="commands", rule=7)

_SPACES = "The value is everything after the one space that follows the key: split at most three times, strip nothing."
_BYTES = "Keep the bytes of a value as they were received."
_KEY = "A key has 1 to 511 bytes; count bytes, not characters, and check it in every command."


def _stored(key: bytes, value: bytes) -> tuple[Step, ...]:
    return (*ask(b"KV/1.0 PUT " + key + b" " + value, b"201 CREATED"), *ask(b"KV/1.0 GET " + key, b"200 OK " + value))


CASES: Final = (
    _case(
        id="put-new",
        source=Source.COURSE,
        title="PUT of a new key is 201 CREATED",
        habit=Habit.CREATED,
        steps=(Send(b"KV/1.0 PUT {k} v\n"), Expect((b"201 CREATED",), strict=Habit.CREATED)),
        hint="Check whether the key exists before you store.",
    ),
    _case(
        id="put-replace",
        source=Source.COURSE,
        title="PUT of an existing key is 200 OK",
        habit=Habit.REPLACED,
        steps=(
            *ask(b"KV/1.0 PUT {k} old", b"201 CREATED"),
            Send(b"KV/1.0 PUT {k} new\n"),
            Expect((b"200 OK",), strict=Habit.REPLACED),
        ),
        hint="Only a new key is 201 CREATED.",
    ),
    _case(
        id="get",
        source=Source.COURSE,
        title="GET returns the value",
        steps=_stored(b"{k}", b"value"),
        hint="200 OK, one space, the value.",
    ),
    _case(
        id="get-missing",
        source=Source.COURSE,
        title="GET of a missing key is 404 NOT_FOUND",
        steps=ask(b"KV/1.0 GET {k}", b"404 NOT_FOUND"),
        hint="A missing key is a normal result, not an error of the server.",
    ),
    _case(
        id="get-again",
        source=Source.COURSE,
        title="GET does not remove the value: a second and a third GET return it too",
        steps=(
            *_stored(b"{k}", b"value"),
            *ask(b"KV/1.0 GET {k}", b"200 OK value"),
            Leave(),
            *ask(b"KV/1.0 GET {k}", b"200 OK value", on="b"),
        ),
        hint="GET only reads: it removes nothing and changes nothing.",
    ),
    _case(
        id="put-equal",
        source=Source.COURSE,
        title="PUT of the value that is already stored is 200 OK too",
        steps=(*ask(b"KV/1.0 PUT {k} same", b"201 CREATED"), *ask(b"KV/1.0 PUT {k} same", b"200 OK")),
        hint="201 CREATED is about the key, not about its value.",
    ),
    _case(
        id="get-replaced",
        source=Source.COURSE,
        title="GET returns the newest value",
        steps=(
            *ask(b"KV/1.0 PUT {k} a-long-old-value", b"201 CREATED"),
            *ask(b"KV/1.0 PUT {k} new", b"200 OK"),
            *ask(b"KV/1.0 GET {k}", b"200 OK new"),
        ),
        hint="PUT replaces the whole value.",
    ),
    _case(
        id="del",
        source=Source.COURSE,
        title="DEL of an existing key is 204 NO_CONTENT",
        habit=Habit.DELETED,
        steps=(
            *ask(b"KV/1.0 PUT {k} v", b"201 CREATED"),
            Send(b"KV/1.0 DEL {k}\n"),
            Expect((b"204 NO_CONTENT",), strict=Habit.DELETED),
        ),
        hint="DEL has no data to return: 204, not 200.",
    ),
    _case(
        id="del-missing",
        source=Source.COURSE,
        title="DEL of a missing key is 404 NOT_FOUND",
        steps=ask(b"KV/1.0 DEL {k}", b"404 NOT_FOUND"),
        hint="Check whether the key exists before you delete.",
    ),
    _case(
        id="del-forgets",
        source=Source.COURSE,
        title="After DEL the key is gone, and PUT creates it again",
        steps=(
            *ask(b"KV/1.0 PUT {k} v", b"201 CREATED"),
            *ask(b"KV/1.0 DEL {k}", b"204 NO_CONTENT"),
            *ask(b"KV/1.0 GET {k}", b"404 NOT_FOUND"),
            *ask(b"KV/1.0 PUT {k} w", b"201 CREATED"),
        ),
        hint="A deleted key must not leave an empty value behind.",
    ),
    _case(
        id="shared",
        source=Source.COURSE,
        title="One client finds what another one has stored",
        points=2,
        steps=(*ask(b"KV/1.0 PUT {k} v", b"201 CREATED"), Leave(), *ask(b"KV/1.0 GET {k}", b"200 OK v", on="b")),
        hint="All connections share one store, and it outlives them.",
    ),
    _case(
        id="spaces-inside",
        source=Source.README,
        title="Spaces inside a value are kept, single and double",
        steps=_stored(b"{k}", b"two words  and   more"),
        hint=_SPACES,
    ),
    _case(id="space-first", title="A value may begin with a space", steps=_stored(b"{k}", b" v"), hint=_SPACES),
    _case(id="space-last", title="A value may end with a space", steps=_stored(b"{k}", b"v "), hint=_SPACES),
    _case(id="space-only", title="A value may be one space", steps=_stored(b"{k}", b" "), hint=_SPACES),
    _case(
        id="unicode",
        source=Source.README,
        rule=1,
        title="Keys and values may be any Unicode text",
        steps=_stored("{k}-khóa-ключ-键".encode(), "giá-trị-значение-値💾".encode()),
        hint="Decode and encode as UTF-8 on both ways, whatever the system's own encoding is.",
    ),
    _case(
        id="unicode-as-is",
        rule=1,
        title="Two spellings of one letter are two keys: text is not normalised",
        steps=(*_stored(b"{k}\xc3\xa9", b"one"), *_stored(b"{k}e\xcc\x81", b"two")),
        hint=_BYTES,
    ),
    _case(
        id="value-as-is",
        source=Source.README,
        rule=1,
        title="A value is not normalised either",
        steps=_stored(b"{k}", b"e\xcc\x81-\xe1\xba\xbf-e\xcc\x82\xcc\x81"),
        hint=_BYTES,
    ),
    _case(id="tab-last", rule=1, title="A value may end with a tab", steps=_stored(b"{k}", b"v\t"), hint=_SPACES),
    _case(id="nul-last", rule=1, title="A value may end with NUL", steps=_stored(b"{k}", b"v\0"), hint=_BYTES),
    _case(
        id="long-keys",
        source=Source.README,
        title="Long keys that differ only at their end are two keys",
        steps=(
            *ask(b"KV/1.0 PUT {k400}-one 1", b"201 CREATED"),
            *ask(b"KV/1.0 PUT {k400}-two 2", b"201 CREATED"),
            *ask(b"KV/1.0 GET {k400}-one", b"200 OK 1"),
        ),
        hint="Compare whole keys; a char key[64] cuts them.",
    ),
    _case(
        id="many-keys",
        source=Source.COURSE,
        alone=True,
        patience=8,
        title="The store holds 1,100 keys",
        steps=(
            *(step for n in range(1100) for step in ask(b"KV/1.0 PUT {k}-%d v%d" % (n, n), b"201 CREATED")),
            *(step for n in (0, 499, 999, 1099) for step in ask(b"KV/1.0 GET {k}-%d" % n, b"200 OK v%d" % n)),
        ),
        hint="Use a container that grows; say 500 SERVER_ERROR rather than forget a key.",
    ),
    _case(
        id="case-sensitive",
        source=Source.COURSE,
        rule=1,
        title="Keys that differ in case are two keys",
        steps=(*_stored(b"{k}-key", b"one"), *_stored(b"{k}-KEY", b"two")),
        hint=_BYTES,
    ),
    _case(
        id="value-is-data",
        source=Source.COURSE,
        rule=1,
        title="A value that looks like a code, an escape or markup comes back unchanged",
        steps=_stored(b"{k}", rb'404\n\x00%s{}"q"&lt;a=b,c:d|e/KV/1.0/QUIT'),
        hint=_BYTES,
    ),
    _case(
        id="value-number",
        source=Source.COURSE,
        rule=1,
        title="A value that looks like a number, null or false comes back unchanged",
        steps=tuple(
            step
            for n, value in enumerate((b"0", b"007", b"1.50", b"1e3", b"null", b"false"))
            for step in _stored(b"{k}-%d" % n, value)
        ),
        hint=_BYTES + " Check whether a key exists, not whether its value is true.",
    ),
    _case(
        id="keys-of-objects",
        source=Source.COURSE,
        title="Keys that nobody has stored do not exist, even if the language's objects have such names",
        steps=tuple(
            step
            for key in (b"constructor", b"__proto__", b"toString", b"__class__", b"length")
            for step in ask(b"KV/1.0 GET " + key, b"404 NOT_FOUND")
        ),
        hint="Use a map that allows any key, such as Map in JavaScript, not {}.",
    ),
    _case(
        id="keys-with-signs",
        source=Source.COURSE,
        rule=1,
        title="Signs such as = : , ; / and % are part of a key",
        steps=tuple(
            step
            for n, sign in enumerate((b"", b"=", b":", b",", b";", b"/", b"|", b"A", b"%41", b'"', b"\\"))
            for step in _stored(b"{k}%b" % sign, b"v%d" % n)
        ),
        hint="A key is a sequence of bytes: use a map, not a text in which a sign separates keys from values.",
    ),
    _case(id="key-511", title="A key of 511 bytes is stored", steps=_stored(b"{k511}", b"v"), hint=_KEY),
    _case(
        id="key-512-put",
        title="PUT with a key of 512 bytes is refused",
        steps=ask(b"KV/1.0 PUT {k512} v", b"400 BAD_REQUEST"),
        hint=_KEY,
    ),
    _case(
        id="key-512-get",
        title="GET and DEL with a key of 512 bytes are refused",
        steps=(*ask(b"KV/1.0 GET {k512}", b"400 BAD_REQUEST"), *ask(b"KV/1.0 DEL {k512}", b"400 BAD_REQUEST")),
        hint=_KEY,
    ),
    _case(
        id="key-bytes",
        title="A key's length is counted in bytes: 300 letters of two bytes are too many",
        steps=ask(b"KV/1.0 PUT {k}" + "é".encode() * 300 + b" v", b"400 BAD_REQUEST"),
        hint=_KEY,
    ),
)
