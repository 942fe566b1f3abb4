"""Robustness: long lines, bytes that are not text, many clients, slow clients, and resets (rules 1 to 4)."""

from functools import partial
from typing import Final

from kvss_gevent.conformance.case import Case, Expect, Finish, Pause, Reset, Send, Source, Step, Taken, ask

_case = partial(Case, group="robustness", rule=3)
_heavy = partial(_case, alone=True, patience=3)

_LONG = "Only remember that the line is too long, drop its bytes up to the line feed, answer once, and go on."
_UTF8 = "Catch the decoding error of a line: answer 400 and read on; decode strictly, not with errors='replace'."
_BESIDE = "No client may wait for another one: serve each client in its own thread, task or greenlet."
_CLIENTS = tuple(f"client {number}" for number in range(1, 101))


def _refused_then_served(line: bytes) -> tuple[Step, ...]:
    return *ask(line, b"400 BAD_REQUEST"), *ask(b"KV/1.0 PUT {k} v", b"201 CREATED")


CASES: Final = (
    _case(
        id="invalid-utf8",
        title="A line that is not UTF-8 gets 400 and the connection goes on",
        steps=_refused_then_served(b"KV/1.0 PUT {k} \xff\xfe"),
        hint=_UTF8,
    ),
    _case(
        id="invalid-utf8-key",
        title="A key that is not UTF-8 gets 400, in GET too",
        steps=_refused_then_served(b"KV/1.0 GET {k}\x80"),
        hint=_UTF8,
    ),
    _case(
        id="invalid-utf8-version",
        title="A line that is not UTF-8 gets 400 even where its version is wrong",
        steps=_refused_then_served(b"\xffKV/1.0 GET {k}"),
        hint="Check the line for UTF-8 before looking at its first word.",
    ),
    _case(
        id="truncated-utf8",
        title="A character that the line feed cuts short gets 400",
        steps=_refused_then_served(b"KV/1.0 PUT {k} caf\xc3"),
        hint="A character does not continue after the line feed: decode each line by itself.",
    ),
    _case(
        id="forbidden-utf8",
        title="Overlong forms and surrogates are not UTF-8",
        steps=(
            *ask(b"KV/1.0 PUT {k} \xc0\xaf", b"400 BAD_REQUEST"),
            *_refused_then_served(b"KV/1.0 PUT {k} \xed\xa0\x80"),
        ),
        hint=_UTF8,
    ),
    _case(
        id="nul",
        rule=1,
        title="NUL and other control characters are kept in a value",
        steps=(
            *ask(b"KV/1.0 PUT {k} a\0b\x1b[0m\x7f", b"201 CREATED"),
            *ask(b"KV/1.0 GET {k}", b"200 OK a\0b\x1b[0m\x7f"),
        ),
        hint="A value may contain NUL: store its length, do not search for its end.",
    ),
    _case(
        id="reset-mid-line",
        source=Source.README,
        rule=4,
        title="A client that resets its connection in the middle of a line harms no other client",
        steps=(
            *ask(b"KV/1.0 PUT {k} v", b"201 CREATED"),
            Send(b"KV/1.0 PUT {k}-2 half"),
            Reset(),
            *ask(b"KV/1.0 GET {k}", b"200 OK v", on="b"),
        ),
        hint="recv() and send() raise an error when a client has gone: end its connection, not the server.",
    ),
    _case(
        id="reset-unread",
        source=Source.README,
        rule=4,
        title="A client that resets its connection without reading its replies harms no other client",
        steps=(
            Send(b"KV/1.0 PUT {k} v\n" * 200),
            Reset(),
            Pause(0.1),
            *ask(b"KV/1.0 PUT {k}-b v", b"201 CREATED", on="b"),
        ),
        hint="recv() and send() raise an error when a client has gone: end its connection, not the server.",
    ),
    _case(
        id="slow-beside-quick",
        source=Source.README,
        rule=1,
        points=2,
        title="A client in the middle of a line does not keep another one waiting",
        steps=(
            Send(b"KV/1.0 PUT {k} sl", on="slow"),
            Taken(on="slow"),
            *ask(b"KV/1.0 GET {k}", b"404 NOT_FOUND"),
            *ask(b"KV/1.0 PUT {k} quick", b"201 CREATED"),
            Send(b"ow\n", on="slow"),
            Expect((b"200 OK",), on="slow"),
            *ask(b"KV/1.0 GET {k}", b"200 OK slow"),
        ),
        hint=_BESIDE,
    ),
    _case(
        id="hundred-clients",
        patience=2,
        source=Source.README,
        rule=1,
        points=2,
        alone=True,
        title="A hundred clients at once are all served",
        steps=(
            *ask(b"KV/1.0 PUT {k} v", b"201 CREATED"),
            # Each is served once before the next one connects: no document asks for a long backlog.
            *(step for client in _CLIENTS for step in ask(b"KV/1.0 GET {k}", b"200 OK v", on=client)),
            *(Send(b"KV/1.0 GET {k}\n", on=client) for client in _CLIENTS),
            *(Expect((b"200 OK v",), on=client) for client in _CLIENTS),
        ),
        hint=_BESIDE,
    ),
    _heavy(
        id="pipeline-read-late",
        rule=1,
        title="A client that sends 2,000 requests before it reads gets every reply",
        steps=(
            *ask(b"KV/1.0 PUT {k} {x2000}", b"201 CREATED"),
            Send(b"KV/1.0 GET {k}\n" * 2000),
            Pause(0.3),
            Expect((b"200 OK {x2000}",) * 2000),
            *ask(b"KV/1.0 DEL {k}", b"204 NO_CONTENT"),
        ),
        hint="send() may take only a part of what it is given: use sendall() or keep the rest.",
    ),
    _heavy(
        id="large-value",
        rule=2,
        title="A value of 1,000,000 bytes, near the limit of 1 MiB, is stored and returned",
        steps=(
            *ask(b"KV/1.0 PUT {k} {x1000000}", b"201 CREATED"),
            *ask(b"KV/1.0 GET {k}", b"200 OK {x1000000}"),
            *ask(b"KV/1.0 DEL {k}", b"204 NO_CONTENT"),
        ),
        hint="Read until the line feed, however many packets it takes; use sendall() for the reply.",
    ),
    _heavy(
        id="long-line",
        rule=2,
        points=2,
        title="A line over the limit of 1 MiB gets one 400 and the connection goes on",
        steps=_refused_then_served(b"KV/1.0 PUT {k} {x1200000}"),
        hint=_LONG,
    ),
    _heavy(
        id="long-line-then-more",
        rule=2,
        title="A request right after a line over the limit is answered",
        steps=(
            Send(b"KV/1.0 PUT {k} {x1100000}"),
            Send(b"{x100000}\nKV/1.0 PUT {k} v\n"),
            Expect((b"400 BAD_REQUEST", b"201 CREATED")),
        ),
        hint=_LONG,
    ),
    _heavy(
        id="long-line-dropped",
        rule=2,
        title="A line over the limit without a line feed is dropped when its client leaves",
        steps=(Send(b"KV/1.0 PUT {k} {x1200000}"), Finish(), *ask(b"KV/1.0 GET {k}", b"404 NOT_FOUND", on="b")),
        hint=_LONG,
    ),
)
