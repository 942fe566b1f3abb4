"""STATS: the form of its line, and its counters as differences, since other clients may use the server (rule 8)."""

from functools import partial
from typing import Final

from kvss_gevent.conformance.case import Case, Expect, Leave, Pause, Send, Stats, ask
from kvss_gevent.conformance.stats_forms import FORMS, LAB, README

_case = partial(Case, group="STATS", rule=8)
_counting = partial(_case, alone=True, attempts=3)

_FORM = "One line, every name, colon, semicolon and space as in the course document."
_COUNT = "Count each request once, where it is answered, in one place that all connections share."
_EACH = "Count a well-formed request whether or not its key was there; do not count a refused one."

CASES: Final = (
    _case(
        id="stats-form",
        points=2,
        form=README,
        title="STATS has the course document's form, uptime as H:MM:SS",
        steps=ask(b"KV/1.0 STATS", FORMS[README]),
        hint=_FORM,
    ),
    _case(
        id="stats-form-lab",
        points=2,
        form=LAB,
        title="STATS has the lab sheet's form",
        steps=ask(b"KV/1.0 STATS", FORMS[LAB]),
        hint="200 OK keys=<number> uptime=<seconds>s served=<number>, and nothing else.",
    ),
    *(
        _case(
            id="stats-pipelined" if form == README else "stats-pipelined-lab",
            form=form,
            title="STATS between other requests of one packet is one line in its place",
            steps=(
                Send(b"KV/1.0 PUT {k} v\nKV/1.0 STATS\nKV/1.0 GET {k}\n"),
                Expect((b"201 CREATED", pattern, b"200 OK v")),
            ),
            hint=_FORM,
        )
        for form, pattern in FORMS.items()
    ),
    _case(
        id="stats-uptime",
        title="The uptime grows with the clock",
        steps=(Stats(), Pause(1.2), Stats(moved=(("uptime", 1, 3),))),
        hint="Remember when the server started and take the difference at each STATS.",
    ),
    _counting(
        id="stats-commands",
        title="commands_processed (served) counts every request, STATS and errors too",
        steps=(
            Stats(),
            *ask(b"KV/1.0 PUT {k} v", b"201 CREATED"),
            *ask(b"KV/1.0 GET", b"400 BAD_REQUEST"),
            *ask(b"GET {k}", b"426 UPGRADE_REQUIRED"),
            Stats(moved=(("commands_processed", 4, 4),)),
        ),
        hint=_COUNT + " Three requests and the first STATS make four.",
    ),
    _counting(
        id="stats-keys",
        title="keys_stored (keys) follows new, replaced and deleted keys",
        steps=(
            Stats(),
            *ask(b"KV/1.0 PUT {k} v", b"201 CREATED"),
            Stats(moved=(("keys_stored", 1, 1),)),
            *ask(b"KV/1.0 PUT {k} w", b"200 OK"),
            Stats(moved=(("keys_stored", 0, 0),)),
            *ask(b"KV/1.0 DEL {k}", b"204 NO_CONTENT"),
            Stats(moved=(("keys_stored", -1, -1),)),
        ),
        hint="Report the size of the store itself; a counter of its own runs away from it.",
    ),
    _counting(
        id="stats-gets",
        form=README,
        title="get_requests counts GETs, found or not",
        steps=(
            *ask(b"KV/1.0 PUT {k} v", b"201 CREATED"),
            Stats(),
            *ask(b"KV/1.0 GET {k}", b"200 OK v"),
            *ask(b"KV/1.0 GET {k}-no", b"404 NOT_FOUND"),
            Stats(moved=(("get_requests", 2, 2), ("put_requests", 0, 0), ("del_requests", 0, 0))),
        ),
        hint=_EACH,
    ),
    _counting(
        id="stats-puts",
        form=README,
        title="put_requests counts PUTs, new or replacing",
        steps=(
            Stats(),
            *ask(b"KV/1.0 PUT {k} v", b"201 CREATED"),
            *ask(b"KV/1.0 PUT {k} w", b"200 OK"),
            Stats(moved=(("get_requests", 0, 0), ("put_requests", 2, 2), ("del_requests", 0, 0))),
        ),
        hint=_EACH,
    ),
    _counting(
        id="stats-dels",
        form=README,
        title="del_requests counts DELs, found or not",
        steps=(
            *ask(b"KV/1.0 PUT {k} v", b"201 CREATED"),
            Stats(),
            *ask(b"KV/1.0 DEL {k}", b"204 NO_CONTENT"),
            *ask(b"KV/1.0 DEL {k}", b"404 NOT_FOUND"),
            Stats(moved=(("get_requests", 0, 0), ("put_requests", 0, 0), ("del_requests", 2, 2))),
        ),
        hint=_EACH,
    ),
    _counting(
        id="stats-refused",
        form=README,
        title="The counters of GET, PUT and DEL leave refused requests out",
        steps=(
            Stats(),
            *ask(b"KV/1.0 GET", b"400 BAD_REQUEST"),
            *ask(b"KV/1.0 PUT {k}", b"400 BAD_REQUEST"),
            *ask(b"KV/1.0 DEL {k} {k}", b"400 BAD_REQUEST"),
            *ask(b"KV/1.1 GET {k}", b"426 UPGRADE_REQUIRED"),
            Stats(moved=(("get_requests", 0, 0), ("put_requests", 0, 0), ("del_requests", 0, 0))),
        ),
        hint=_EACH,
    ),
    _counting(
        id="stats-connections",
        form=README,
        title="connections is the number open now: it rises and falls with clients",
        points=2,
        steps=(
            Stats(),
            *ask(b"KV/1.0 PUT {k} v", b"201 CREATED", on="b"),
            *ask(b"KV/1.0 GET {k}", b"200 OK v", on="c"),
            Stats(moved=(("connections", 2, 2),)),
            Leave(on="b"),
            Leave(on="c"),
            Stats(moved=(("connections", -2, -2),), settle_s=1.0),
        ),
        hint="Count up at accept and down in a finally clause when the connection ends, however it ends.",
    ),
)
