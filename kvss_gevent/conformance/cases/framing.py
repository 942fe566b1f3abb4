"""Framing: how bytes become lines and lines get replies (rules 1 and 4)."""

from functools import partial
from typing import Final

from kvss_gevent.conformance.case import Case, Closed, Expect, Finish, Habit, HalfClose, Send, Source, ask, pipeline

_case = partial(Case, group="framing", rule=1)

_RECV = "One recv() is not one request: keep the bytes and cut them at each line feed."
_ALL = "One recv() may hold many requests: answer every complete line before the next recv()."
_BYTES = "Decode or check a whole line, never the result of one recv()."

CASES: Final = (
    _case(
        id="one-line",
        source=Source.COURSE,
        title="A request gets its reply",
        steps=ask(b"KV/1.0 PUT {k} value", b"201 CREATED"),
        hint="Every other case needs at least this.",
    ),
    _case(
        id="reply-ends-in-lf",
        source=Source.COURSE,
        habit=Habit.ENDING,
        title="A reply ends in one line feed, without a carriage return",
        steps=(Send(b"KV/1.0 PUT {k} value\n"), Expect((b"201 CREATED",), strict=Habit.ENDING)),
        hint="Send \\n, not \\r\\n; on some systems a file object in text mode writes \\r\\n by itself.",
    ),
    _case(
        id="reply-not-padded",
        source=Source.COURSE,
        habit=Habit.PADDING,
        title="A reply has no NUL bytes before or after its line",
        steps=(Send(b"KV/1.0 PUT {k} value\n"), Expect((b"201 CREATED",), strict=Habit.PADDING)),
        hint="Send as many bytes as the reply has, strlen(reply), not the size of the buffer.",
    ),
    _case(
        id="no-greeting",
        source=Source.COURSE,
        habit=Habit.GREETING,
        title="The server sends nothing before the first request",
        steps=(Send(b"KV/1.0 PUT {k} value\n"), Expect((b"201 CREATED",), strict=Habit.GREETING)),
        hint="A client takes the first line as the reply to its first request: send no welcome and no prompt.",
    ),
    _case(
        id="byte-by-byte",
        source=Source.COURSE,
        points=2,
        title="A request that comes byte by byte is answered once, when it is whole",
        steps=(
            Send(b"KV/1.0 PUT {k} value\n", cut=1),
            Expect((b"201 CREATED",)),
            *ask(b"KV/1.0 GET {k}", b"200 OK value"),
        ),
        hint=_RECV,
    ),
    _case(
        id="cut-in-version",
        source=Source.COURSE,
        title="A packet may end in the middle of a word",
        steps=(Send(b"KV/1"), Send(b".0 PUT {k} v\n"), Expect((b"201 CREATED",))),
        hint=_RECV,
    ),
    _case(
        id="cut-before-lf",
        source=Source.COURSE,
        title="A request is not run before its line feed has come",
        steps=(
            Send(b"KV/1.0 PUT {k} first"),
            Send(b"-second\n"),
            Expect((b"201 CREATED",)),
            *ask(b"KV/1.0 GET {k}", b"200 OK first-second"),
        ),
        hint=_RECV,
    ),
    _case(
        id="lf-alone",
        source=Source.COURSE,
        title="The line feed may come in a packet of its own",
        steps=(Send(b"KV/1.0 PUT {k} v"), Send(b"\n"), Expect((b"201 CREATED",))),
        hint=_RECV,
    ),
    _case(
        id="one-and-a-half",
        source=Source.README,
        points=2,
        title="A packet may hold one request and the first half of the next",
        steps=(
            Send(b"KV/1.0 PUT {k} v\nKV/1.0 GE"),
            Expect((b"201 CREATED",)),
            Send(b"T {k}\n"),
            Expect((b"200 OK v",)),
        ),
        hint="Keep what follows the last line feed for the next recv(), but answer the complete lines at once.",
    ),
    _case(
        id="two-in-one",
        source=Source.README,
        points=2,
        title="Two requests in one packet get two replies",
        steps=pipeline((b"KV/1.0 PUT {k} v", b"KV/1.0 GET {k}"), (b"201 CREATED", b"200 OK v")),
        hint=_ALL,
    ),
    _case(
        id="hundred-in-one",
        title="A hundred requests in one packet get a hundred replies",
        steps=pipeline((b"KV/1.0 PUT {k}-%d v%d" % (n, n) for n in range(100)), (b"201 CREATED",) * 100),
        hint=_ALL,
    ),
    _case(
        id="in-order",
        source=Source.README,
        points=2,
        title="Replies come in the order of the requests",
        steps=pipeline(
            (
                b"KV/1.0 GET {k}",
                b"KV/1.0 PUT {k} 1",
                b"KV/1.0 PUT {k} 2",
                b"KV/1.0 GET {k}",
                b"KV/1.0 NO",
                b"KV/1.0 DEL {k}",
                b"KV/1.0 GET {k}",
            ),
            (
                b"404 NOT_FOUND",
                b"201 CREATED",
                b"200 OK",
                b"200 OK 2",
                b"400 BAD_REQUEST",
                b"204 NO_CONTENT",
                b"404 NOT_FOUND",
            ),
        ),
        hint="Run the requests of one connection one after the other.",
    ),
    _case(
        id="crlf",
        title="A carriage return before the line feed is dropped, as telnet sends it",
        steps=(*ask(b"KV/1.0 PUT {k} v\r", b"201 CREATED"), *ask(b"KV/1.0 GET {k}", b"200 OK v")),
        hint="Drop one \\r at the end of the line, or the value is stored with it.",
    ),
    _case(
        id="crlf-cut",
        title="Carriage return and line feed may come in two packets",
        steps=(
            Send(b"KV/1.0 PUT {k} v\r"),
            Send(b"\n"),
            Expect((b"201 CREATED",)),
            *ask(b"KV/1.0 GET {k}\r", b"200 OK v"),
        ),
        hint=_RECV,
    ),
    _case(
        id="crlf-once",
        title="Only one carriage return is dropped, and only at the end",
        steps=(*ask(b"KV/1.0 PUT {k} a\rb\r\r", b"201 CREATED"), *ask(b"KV/1.0 GET {k}", b"200 OK a\rb\r")),
        hint="strip() and rstrip() remove more than the one \\r: what is stored must come back byte for byte.",
    ),
    _case(
        id="only-lf-ends",
        title="Nothing but a line feed ends a line",
        steps=(
            *ask("KV/1.0 PUT {k} a\v\f\x1c\x85\u2028b".encode(), b"201 CREATED"),
            *ask(b"KV/1.0 GET {k}", "200 OK a\v\f\x1c\x85\u2028b".encode()),
        ),
        hint="splitlines() of a str also cuts at \\v, \\f, U+0085, U+2028 and others: use split('\\n').",
    ),
    _case(
        id="utf8-cut",
        source=Source.README,
        points=2,
        title="A packet may end in the middle of a character",
        steps=(
            Send(b"KV/1.0 PUT {k} caf\xc3"),
            Send(b"\xa9\xf0\x9f"),
            Send(b"\x92\xbe\n"),
            Expect((b"201 CREATED",)),
            *ask(b"KV/1.0 GET {k}", b"200 OK caf\xc3\xa9\xf0\x9f\x92\xbe"),
        ),
        hint=_BYTES,
    ),
    _case(
        id="half-close-answers",
        rule=4,
        title="A client that closes its sending side still gets every reply, as with nc -N",
        steps=(
            Send(b"KV/1.0 PUT {k} v\nKV/1.0 GET {k}\nKV/1.0 DEL {k}\n"),
            HalfClose(),
            Expect((b"201 CREATED", b"200 OK v", b"204 NO_CONTENT")),
        ),
        hint="The end of the input is no reason to drop replies: answer first, then close.",
    ),
    _case(
        id="half-close-closes",
        rule=4,
        title="The server closes when the client has closed its sending side",
        steps=(*ask(b"KV/1.0 PUT {k} v", b"201 CREATED"), HalfClose(), Closed()),
        hint="recv() returns b'' at the end of the input: leave the loop and close, or the connection leaks.",
    ),
    _case(
        id="incomplete-unanswered",
        rule=4,
        title="A last line without its line feed gets no reply",
        steps=(Send(b"KV/1.0 PUT {k} v\nKV/1.0 GET {k}"), HalfClose(), Expect((b"201 CREATED",)), Closed()),
        hint="The end of the line may be missing: drop it.",
    ),
    _case(
        id="incomplete-del",
        rule=4,
        title="A last DEL without its line feed is not run",
        steps=(
            *ask(b"KV/1.0 PUT {k} kept", b"201 CREATED"),
            Send(b"KV/1.0 DEL {k}"),
            Finish(),
            *ask(b"KV/1.0 GET {k}", b"200 OK kept", on="b"),
        ),
        hint="The end of the line may be missing: DEL user4 may be the first half of DEL user42.",
    ),
    _case(
        id="incomplete-not-run",
        rule=4,
        title="A last line without its line feed is not run",
        steps=(
            *ask(b"KV/1.0 PUT {k} kept", b"201 CREATED"),
            Send(b"KV/1.0 PUT {k} cut-o"),
            Finish(),
            *ask(b"KV/1.0 GET {k}", b"200 OK kept", on="b"),
        ),
        hint="The end of the line may be missing: drop it, or you store half a value.",
    ),
)
