"""Versions: the first word, and lines that are HTTP (rule 5)."""

from functools import partial
from typing import Final

from kvss_gevent.conformance.case import Case, Closed, Expect, Finish, Leave, Send, Source, ask

_case = partial(Case, group="versions", rule=5)

_FIRST = "Check the first word before anything else: only exactly KV/1.0 is accepted."
_HTTP = "A page in a browser can send HTTP to any port: close, or its request body is run as commands."
_PAGE = b"POST / HTTP/1.1\r\nHost: kv\r\nContent-Length: 22\r\n\r\nKV/1.0 PUT {k} stolen\n"

_UPGRADE: Final = (
    ("wrong-name", b"WRONG/1.0 GET test", "Another protocol's name is 426"),
    ("missing-version", b"GET {k}", "A command without a version is 426"),
    ("lone-command", b"GET", "A lone command is 426, not 400"),
    ("lower-case-version", b"kv/1.0 GET {k}", "kv/1.0 in lower case is 426"),
    ("newer-version", b"KV/1.1 GET {k}", "KV/1.1 is 426"),
    ("longer-version", b"KV/1.0x GET {k}", "KV/1.0x is 426"),
    ("shorter-version", b"KV/1 GET {k}", "KV/1 is 426"),
    ("empty-line", b"", "An empty line is 426"),
    ("empty-crlf-line", b"\r", "An empty line from telnet is 426"),
    ("leading-space", b" KV/1.0 GET {k}", "A space before the version is 426"),
    ("tab-version", b"KV/1.0\tGET\t{k}", "A tab does not end the version"),
    ("byte-order-mark", b"\xef\xbb\xbfKV/1.0 GET {k}", "A byte order mark before the version is 426"),
    ("version-first", b"KV/2.0 NONSENSE", "A wrong version with a wrong command is 426, not 400"),
)

_OWN: Final = {"empty-line", "empty-crlf-line", "leading-space", "tab-version", "version-first", "byte-order-mark"}
"""Cases that the course's documents do not decide."""

CASES: Final = (
    *(
        _case(
            id=name,
            title=title,
            steps=ask(line, b"426 UPGRADE_REQUIRED"),
            hint=_FIRST,
            source=Source.PROJECT if name in _OWN else Source.COURSE,
        )
        for name, line, title in _UPGRADE
    ),
    _case(
        id="wrong-version-not-run",
        source=Source.COURSE,
        title="A PUT with a wrong version is not run",
        steps=(
            *ask(b"KV/1.1 PUT {k} v", b"426 UPGRADE_REQUIRED"),
            Leave(),
            *ask(b"KV/1.0 GET {k}", b"404 NOT_FOUND", on="b"),
        ),
        hint=_FIRST,
    ),
    _case(
        id="http-1.1",
        title="An HTTP request gets one 426 and the connection is closed",
        steps=(Send(b"GET / HTTP/1.1\r\n"), Expect((b"426 UPGRADE_REQUIRED",)), Closed()),
        hint=_HTTP,
    ),
    _case(
        id="http-1.0",
        title="HTTP/1.0 and HTTP/2.0 are HTTP too",
        steps=(
            *ask(b"HEAD / HTTP/1.0\r", b"426 UPGRADE_REQUIRED"),
            Closed(),
            *ask(b"PRI * HTTP/2.0\r", b"426 UPGRADE_REQUIRED", on="b"),
            Closed(on="b"),
        ),
        hint=_HTTP,
    ),
    _case(
        id="http-body-unanswered",
        title="Nothing after an HTTP request line is answered",
        steps=(Send(_PAGE), Expect((b"426 UPGRADE_REQUIRED",)), Closed()),
        hint=_HTTP,
    ),
    _case(
        id="http-body-not-run",
        points=2,
        title="A web page cannot smuggle a PUT in the body of its request",
        steps=(
            Send(_PAGE),
            Expect((b"426 UPGRADE_REQUIRED",)),
            Finish(),
            *ask(b"KV/1.0 GET {k}", b"404 NOT_FOUND", on="b"),
        ),
        hint=_HTTP,
    ),
    _case(
        id="http-value",
        title="A KV/1.0 request whose value ends in HTTP/1.1 is not HTTP",
        steps=(
            *ask(b"KV/1.0 PUT {k} GET / HTTP/1.1", b"201 CREATED"),
            *ask(b"KV/1.0 GET {k}", b"200 OK GET / HTTP/1.1"),
        ),
        hint="Only a line that is not KV/1.0 can be HTTP.",
    ),
    _case(
        id="http-whole-word",
        title="A wrong line whose last word only ends in HTTP/1.1 keeps its connection",
        steps=(*ask(b"GET xHTTP/1.1", b"426 UPGRADE_REQUIRED"), *ask(b"KV/1.0 PUT {k} v", b"201 CREATED")),
        hint="Compare the whole last word.",
    ),
)
