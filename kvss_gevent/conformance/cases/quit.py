"""QUIT: its reply, the end of the connection, and the lines after it in the same packet (rule 9)."""

from functools import partial
from typing import Final

from kvss_gevent.conformance.case import Case, Closed, Expect, Finish, Habit, Send, Source, ask

_case = partial(Case, group="QUIT", rule=9)

_STOP = "Leave the loop over the lines of a packet too, not only the loop over recv()."

CASES: Final = (
    _case(
        id="quit-bye",
        source=Source.SHEET,
        habit=Habit.FAREWELL,
        title="QUIT is answered with 200 OK bye",
        steps=(Send(b"KV/1.0 QUIT\n"), Expect((b"200 OK bye",), strict=Habit.FAREWELL), Closed(judged=False)),
        hint="Send the reply before closing.",
    ),
    _case(
        id="quit-closes",
        source=Source.COURSE,
        title="The server closes the connection after QUIT",
        steps=(*ask(b"KV/1.0 PUT {k} v", b"201 CREATED"), *ask(b"KV/1.0 QUIT", b"200 OK bye"), Closed()),
        hint="Close the socket; returning from the handler may not do it.",
    ),
    _case(
        id="quit-before",
        title="Requests before QUIT in the same packet are all answered",
        steps=(
            Send(b"KV/1.0 PUT {k} v\nKV/1.0 GET {k}\nKV/1.0 QUIT\n"),
            Expect((b"201 CREATED", b"200 OK v", b"200 OK bye")),
            Closed(),
        ),
        hint="Answer in order: QUIT is a request like the others.",
    ),
    _case(
        id="quit-unanswered",
        title="Lines after QUIT in the same packet are not answered",
        steps=(Send(b"KV/1.0 QUIT\nKV/1.0 GET {k}\nKV/1.0 STATS\n"), Expect((b"200 OK bye",)), Closed()),
        hint=_STOP,
    ),
    _case(
        id="quit-not-run",
        title="Lines after QUIT in the same packet are not run",
        steps=(
            Send(b"KV/1.0 QUIT\nKV/1.0 PUT {k} v\n"),
            Expect((b"200 OK bye",)),
            Finish(),
            *ask(b"KV/1.0 GET {k}", b"404 NOT_FOUND", on="b"),
        ),
        hint=_STOP,
    ),
    _case(
        id="quit-own",
        source=Source.README,
        title="QUIT ends the connection of its client only",
        steps=(
            *ask(b"KV/1.0 PUT {k} v", b"201 CREATED", on="b"),
            *ask(b"KV/1.0 QUIT", b"200 OK bye"),
            *ask(b"KV/1.0 GET {k}", b"200 OK v", on="b"),
        ),
        hint="Serve clients at the same time, and close the client's socket, not the listening one.",
    ),
)
