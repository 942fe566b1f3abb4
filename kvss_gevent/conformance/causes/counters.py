"""Bugs in what STATS counts."""

from typing import Final

from kvss_gevent.conformance.causes.cause import Cause

CAUSES: Final = (
    Cause(
        name="stats-missing",
        sentence="STATS is not answered with counters.",
        advice="Count requests and keys, and answer STATS with 200 OK and the line of the document.",
        some={"stats-form*": "'[45]|nothing|closed"},
        passes=("one-line",),
        also=("stats-*",),
    ),
    Cause(
        name="connections-never-fall",
        sentence="connections counts all clients that ever connected, not those that are connected now.",
        advice="Count down in a finally clause, so that every end of a connection is counted.",
        fails={"stats-connections": r"connections moved by (0|1|-1) instead of -2"},
        over=("connections-leak-at-reset",),
        also=("stats-after-reset",),
    ),
    Cause(
        name="connections-leak-at-reset",
        sentence="connections does not fall when a client resets its connection.",
        advice="Count down in a finally clause: recv() raises an error when a client resets its connection.",
        fails={"stats-after-reset": "connections moved"},
        passes=("stats-connections",),
    ),
    Cause(
        name="keys-counted-apart",
        sentence="keys_stored becomes different from the number of keys in the store.",
        advice="Report the size of the store itself, such as len(store).",
        fails={"stats-keys": "keys_stored moved"},
        passes=("del-forgets", "put-replace"),
    ),
    Cause(
        name="commands-left-out",
        sentence="commands_processed leaves out STATS or refused requests.",
        advice="Count each request once, where it is answered, whatever the answer is.",
        fails={"stats-commands": "commands_processed moved by [123] "},
        passes=("stats-gets", "stats-second"),
    ),
    Cause(
        name="counter-stands-still",
        sentence="A counter of requests does not change.",
        advice="Count each request where it is answered, and read the same variable in STATS.",
        some={
            "stats-commands": "commands_processed moved by 0 ",
            **{f"stats-{verb}s": f"{verb}_requests moved by 0 " for verb in ("get", "put", "del")},
        },
        over=("counters-per-connection",),
        also=("stats-second",),
    ),
    Cause(
        name="successes-counted",
        sentence="The counters of GET, PUT and DEL leave out requests that find nothing or replace something.",
        advice="Count a well-formed request whether or not its key was there.",
        some={f"stats-{verb}s": f"{verb}_requests moved by 1 " for verb in ("get", "put", "del")},
        passes=("stats-second",),
    ),
    Cause(
        name="refused-counted",
        sentence="The counters of GET, PUT and DEL also count refused requests.",
        advice="Count after the check of the request, not before it.",
        fails={"stats-refused": "moved by [123]"},
    ),
    Cause(
        name="counters-begin-elsewhere",
        sentence="Counters do not begin at 0, or count the STATS that asks for them.",
        advice="Begin at 0; commands_processed counts the requests answered before this one.",
        some={"stats-fresh*": ""},
        passes=("stats-keys", "stats-connections"),
    ),
    Cause(
        name="uptime-stands-still",
        sentence="The uptime does not grow with the clock.",
        advice="Remember once when the server started and take the difference at each STATS.",
        fails={"stats-uptime": "uptime moved"},
    ),
)
