"""STATS: the form of its line, and its counters as differences, since other clients may use the server (rule 8)."""

from functools import partial
from typing import Final

from kvss_gevent.conformance.case import AskStats, Case, Expect, Habit, Leave, Pause, Reset, Send, Source, ask
from kvss_gevent.conformance.stats_forms import FORMS, LAB, README

_case = partial(Case, group="STATS", rule=8)
_counting = partial(_case, alone=True, attempts=3)

_FORM = "One line, every name, colon, semicolon and space as in the course document."
_COUNT = "Count each request once, where it is answered, in one place that all connections share."
_EACH = "Count a well-formed request whether or not its key was there; do not count a refused one."

_OPEN = "Count up at accept and down in a finally clause, so that every end of a connection is counted."

CASES: Final = (
    _case(
        id="stats-form",
        source=Source.README,
        points=2,
        form=README,
        habit=Habit.STATS,
        title="STATS has the course document's form, uptime as H:MM:SS",
        steps=(Send(b"KV/1.0 STATS\n"), Expect((FORMS[README],), strict=Habit.STATS)),
        hint=_FORM,
    ),
    _case(
        id="stats-form-lab",
        source=Source.SHEET,
        points=2,
        form=LAB,
        habit=Habit.STATS,
        title="STATS has the lab sheet's form",
        steps=(Send(b"KV/1.0 STATS\n"), Expect((FORMS[LAB],), strict=Habit.STATS)),
        hint="200 OK keys=<number> uptime=<seconds>s served=<number>, and nothing else.",
    ),
    *(
        _case(
            id="stats-pipelined" if form == README else "stats-pipelined-lab",
            form=form,
            title="STATS between other requests of one packet gets one line, in the right place",
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
        source=Source.COURSE,
        title="The uptime grows with the clock",
        # The client leaves in the pause, so that a server of one client at a time can serve other cases meanwhile.
        steps=(AskStats(), Leave(), Pause(1.2), AskStats(moved=(("uptime", 1, 3),), on="later")),
        hint="Remember when the server started and take the difference at each STATS.",
    ),
    _counting(
        id="stats-commands",
        title="commands_processed (served) counts every request, STATS and errors too",
        steps=(
            AskStats(),
            *ask(b"KV/1.0 PUT {k} v", b"201 CREATED"),
            *ask(b"KV/1.0 GET", b"400 BAD_REQUEST"),
            *ask(b"GET {k}", b"426 UPGRADE_REQUIRED"),
            AskStats(moved=(("commands_processed", 4, 4),)),
        ),
        hint=_COUNT + " Three requests and the first STATS make four.",
    ),
    _counting(
        id="stats-keys",
        source=Source.COURSE,
        title="keys_stored (keys) follows new, replaced and deleted keys",
        steps=(
            AskStats(),
            *ask(b"KV/1.0 PUT {k} v", b"201 CREATED"),
            AskStats(moved=(("keys_stored", 1, 1),)),
            *ask(b"KV/1.0 PUT {k} w", b"200 OK"),
            AskStats(moved=(("keys_stored", 0, 0),)),
            *ask(b"KV/1.0 DEL {k}", b"204 NO_CONTENT"),
            AskStats(moved=(("keys_stored", -1, -1),)),
        ),
        hint="Report the size of the store itself; a separate counter becomes wrong.",
    ),
    _counting(
        id="stats-gets",
        source=Source.README,
        form=README,
        title="get_requests counts GETs, found or not",
        steps=(
            *ask(b"KV/1.0 PUT {k} v", b"201 CREATED"),
            AskStats(),
            *ask(b"KV/1.0 GET {k}", b"200 OK v"),
            *ask(b"KV/1.0 GET {k}-no", b"404 NOT_FOUND"),
            AskStats(moved=(("get_requests", 2, 2), ("put_requests", 0, 0), ("del_requests", 0, 0))),
        ),
        hint=_EACH,
    ),
    _counting(
        id="stats-puts",
        source=Source.README,
        form=README,
        title="put_requests counts PUTs, new or replacing",
        steps=(
            AskStats(),
            *ask(b"KV/1.0 PUT {k} v", b"201 CREATED"),
            *ask(b"KV/1.0 PUT {k} w", b"200 OK"),
            AskStats(moved=(("get_requests", 0, 0), ("put_requests", 2, 2), ("del_requests", 0, 0))),
        ),
        hint=_EACH,
    ),
    _counting(
        id="stats-dels",
        source=Source.README,
        form=README,
        title="del_requests counts DELs, found or not",
        steps=(
            *ask(b"KV/1.0 PUT {k} v", b"201 CREATED"),
            AskStats(),
            *ask(b"KV/1.0 DEL {k}", b"204 NO_CONTENT"),
            *ask(b"KV/1.0 DEL {k}", b"404 NOT_FOUND"),
            AskStats(moved=(("get_requests", 0, 0), ("put_requests", 0, 0), ("del_requests", 2, 2))),
        ),
        hint=_EACH,
    ),
    _counting(
        id="stats-refused",
        form=README,
        title="The counters of GET, PUT and DEL leave refused requests out",
        steps=(
            AskStats(),
            *ask(b"KV/1.0 GET", b"400 BAD_REQUEST"),
            *ask(b"KV/1.0 PUT {k}", b"400 BAD_REQUEST"),
            *ask(b"KV/1.0 DEL {k} {k}", b"400 BAD_REQUEST"),
            *ask(b"KV/1.1 GET {k}", b"426 UPGRADE_REQUIRED"),
            AskStats(moved=(("get_requests", 0, 0), ("put_requests", 0, 0), ("del_requests", 0, 0))),
        ),
        hint=_EACH,
    ),
    _counting(
        id="stats-connections",
        source=Source.README,
        form=README,
        title="connections is the number open now: it rises and falls with clients",
        points=2,
        steps=(
            AskStats(calm=True),  # the server may still count clients of other cases, which have left
            *ask(b"KV/1.0 PUT {k} v", b"201 CREATED", on="b"),
            *ask(b"KV/1.0 GET {k}", b"200 OK v", on="c"),
            AskStats(moved=(("connections", 2, 2),)),
            Leave(on="b"),
            Leave(on="c"),
            AskStats(moved=(("connections", -2, -2),), settle_s=1.0),
        ),
        hint=_OPEN,
    ),
    _counting(
        id="stats-after-reset",
        form=README,
        source=Source.README,
        title="connections also falls when clients reset their connections",
        steps=(
            AskStats(calm=True),  # the server may still count clients of other cases, which have left
            *ask(b"KV/1.0 PUT {k} v", b"201 CREATED", on="b"),
            *ask(b"KV/1.0 GET {k}", b"200 OK v", on="c"),
            Reset(on="b"),
            Reset(on="c"),
            AskStats(moved=(("connections", 0, 0),), settle_s=1.0),
        ),
        hint=_OPEN,
    ),
    _counting(
        id="stats-second",
        source=Source.COURSE,
        title="STATS counts the requests of all clients, not of its own connection",
        steps=(
            *ask(b"KV/1.0 PUT {k} v", b"201 CREATED", on="b"),
            *(step for _ in range(5) for step in ask(b"KV/1.0 GET {k}", b"200 OK v", on="b")),
            Leave(on="b"),
            AskStats(least=(("commands_processed", 6), ("get_requests", 5))),
        ),
        hint=_COUNT,
    ),
    _case(
        id="stats-fresh",
        source=Source.COURSE,
        fresh=True,
        alone=True,
        title="A server that has just started counts no keys, one connection and no GET, PUT or DEL",
        steps=(
            AskStats(
                exact=(
                    ("keys_stored", 0),
                    ("connections", 1),
                    ("get_requests", 0),
                    ("put_requests", 0),
                    ("del_requests", 0),
                )
            ),
        ),
        hint="Counters begin at 0.",
    ),
    _case(
        id="stats-fresh-commands",
        fresh=True,
        alone=True,
        title="A server that has just started has answered nothing before its first STATS",
        steps=(AskStats(exact=(("commands_processed", 0),)),),
        hint="commands_processed begins at 0 and does not count this STATS; served counts it and is 1.",
    ),
)
