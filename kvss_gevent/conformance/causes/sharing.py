"""Bugs with several clients: what they wrongly share or do not share, and which client waits for another."""

from typing import Final

from kvss_gevent.conformance.causes import framing, values
from kvss_gevent.conformance.causes.cause import Cause

_ANYWHERE: Final = (
    *("put-always-201", "equal-put-201", "deleted-still-there", "refused-put-run"),
    *(
        cause.name
        for cause in (*framing.CAUSES, *values.CAUSES)
        if len(cause.fails) < 2 and "map-copied" not in cause.over
    ),
)
"""Bugs for which a race may be mistaken in a case that it happens to affect."""

CAUSES: Final = (
    Cause(
        name="one-client-at-a-time",
        sentence="The server serves one client at a time: the next one waits until the first has left.",
        advice="Give each connection its own thread, task or greenlet, or use select().",
        some={"*": "serves one client at a time"},
        over=("waits-for-slow", "lock-while-sending", "few-clients"),
    ),
    Cause(
        name="waits-for-slow",
        sentence="A client that has sent half a line makes the others wait.",
        advice="Never wait for one client while you hold what others need: a lock, or the only thread.",
        fails={"slow-beside-quick": "nothing|no line feed"},
        passes=("one-line", "byte-by-byte"),
        over=("lock-while-sending",),
        also=("hundred-clients", "deaf-client"),
    ),
    Cause(
        name="lock-while-sending",
        sentence="A client that does not read its replies makes the others wait: the lock is held while sending.",
        advice="Make the reply under the lock, release the lock, then send.",
        fails={"deaf-client": "nothing|no line feed"},
        passes=("slow-beside-quick", "hundred-clients"),
    ),
    Cause(
        name="slow-replies",
        sentence="The server takes many milliseconds for each request.",
        advice="Send a reply at once, with one send(), and wait for requests in recv() or select(), never in sleep().",
        some=dict.fromkeys(("many-keys", "pipeline-read-late"), r"in the [01]\.\d s that were left"),
        passes=("put-new", "get-again", "shared"),
        over=("few-clients", "lock-while-sending", "waits-for-slow"),
        also=("hundred-*", "pipeline-*", "race-*", "deaf-client"),
    ),
    Cause(
        name="few-clients",
        sentence="The server accepts only a few clients at once.",
        advice="Do not limit the number of clients to a few, and listen with a backlog of 1024.",
        fails={"hundred-clients": "closed|reset|nothing|no connection"},
        passes=("slow-beside-quick",),
        also=("race-*", "deaf-client"),
    ),
    Cause(
        name="store-per-connection",
        sentence="Each connection has its own store.",
        advice="Make the store once, outside the function that serves a client.",
        fails={"shared": "404"},
        passes=("get",),
        over=(
            *("counters-per-connection", "unlocked", "check-then-put", "check-then-del", "stale-cache"),
            *("unfinished-run", "torn-value", "reply-buffer-shared", "keys-counted-apart"),
        ),
        also=("race-*", "quit-own", "slow-beside-quick", "hundred-clients", "stats-*", "incomplete-*", "reset-*"),
    ),
    Cause(
        name="counters-per-connection",
        sentence="Each connection has its own counters.",
        advice="Count in one place that all connections share.",
        fails={"stats-second": "^(commands_processed|get_requests) "},
        passes=("shared",),
        also=("stats-commands",),
    ),
    Cause(
        name="unlocked",
        sentence="PUT and DEL check a key first and change it later; another client can come between the two steps.",
        advice="Hold one lock from the check to the change, in PUT and in DEL.",
        fails={"race-put": "times 201", "race-del": "times 204"},
        passes=("put-replace", "del-missing"),
        over=("check-then-put", "check-then-del", "stale-cache"),
        also=("race-history",),
    ),
    Cause(
        name="check-then-put",
        sentence="PUT checks whether the key exists and stores it later; another client can come between the two "
        "steps.",
        advice="Hold one lock from the check to the change.",
        fails={"race-put": "times 201"},
        passes=("put-replace", "race-del"),
        over=("stale-cache",),
        also=("race-history",),
    ),
    Cause(
        name="check-then-del",
        sentence="DEL checks whether the key exists and removes it later; another client can come between the two "
        "steps.",
        advice="Hold one lock from the check to the change, or use one operation that does both: dict.pop(key, None).",
        fails={"race-del": "times 204|times 500"},
        passes=("del-missing", "race-put"),
        over=("stale-cache",),
        also=("race-history",),
    ),
    Cause(
        name="map-copied",
        sentence="An update is lost: the server copies the map, changes the copy and puts it back.",
        advice="Change the one shared map in place, under a lock.",
        fails={"race-own-keys": "404"},
        passes=("hundred-clients",),
        over=("unlocked", "check-then-put", "check-then-del", "stale-cache", "store-per-connection", *_ANYWHERE),
        also=("race-*", "hundred-clients"),
    ),
    Cause(
        name="reply-buffer-shared",
        sentence="Clients get each other's replies: the threads share one buffer.",
        advice="Keep buffers in local variables or in the connection, never in a global or static variable.",
        fails={"race-own-replies": "'200 OK value-"},
        over=(
            *("map-copied", "unlocked", "check-then-put", "check-then-del", "stale-cache", "torn-value"),
            *_ANYWHERE,
        ),
        also=("race-*", "hundred-clients", "many-keys"),
    ),
    Cause(
        name="torn-value",
        sentence="A GET during a PUT returns a mixture of the old value and the new one.",
        advice="Build the new value first, then put it in place in one step.",
        fails={"race-torn": "of them a and"},
        passes=("large-value", "pipeline-read-late", "get-replaced"),
        over=("stale-cache",),
    ),
    Cause(
        name="stale-cache",
        sentence="Replies contradict each other: a client sees an old value after a newer one was acknowledged.",
        advice="Answer from the one shared store, under one lock; a cache may return old values.",
        fails={"race-history": "no order explains"},
        passes=("shared", "get-replaced", "del-forgets"),
    ),
)
