"""Bugs that end connections, or the server, too early."""

from typing import Final

from kvss_gevent.conformance.causes.cause import DIED, Cause

_ENDED: Final = "closed the connection|reset the connection"

CAUSES: Final = (
    Cause(
        name="one-request-a-connection",
        sentence="The server closes the connection after each reply.",
        advice="Read the next request in a loop until the client closes or sends QUIT.",
        fails={"put-replace": _ENDED, "get": _ENDED, "get-again": _ENDED},
        passes=("put-new", "get-missing"),
        over=("error-ends-connection", "invalid-utf8-ends", "long-lines-end"),
        also=("*",),
    ),
    Cause(
        name="long-lines-end",
        sentence="A long line ends the connection.",
        advice="Read on to its line feed and answer. Readers have limits of their own, such as the 64 KiB of asyncio "
        "(limit=) and of Go's Scanner (Buffer): set 1 MiB.",
        some=dict.fromkeys(("large-value", "deaf-client", "long-line", "race-torn"), _ENDED),
        passes=("byte-by-byte", "hundred-in-one", "get-again", "race-put"),
        also=("long-line*", "pipeline-read-late"),
    ),
    Cause(
        name="dies-when-a-client-breaks-off",
        sentence="The server dies when a client resets its connection.",
        advice="recv() and send() raise when a client has gone: catch that for each client. In C, send() also raises "
        "the signal SIGPIPE: ignore it, or send with MSG_NOSIGNAL.",
        some={"reset-*": f"^{DIED}it ended"},
        over=("crash",),
        also=("deaf-client", "reset-*", "stats-after-reset"),
    ),
    Cause(
        name="slots-run-out",
        sentence="After many connections the server serves no new client, although earlier clients have left.",
        advice="When a connection ends, for any reason, free its slot, its thread and its descriptor.",
        fails={"hundred-clients": f"^{DIED}"},
        over=("crash", "hang", "few-clients"),
    ),
)
