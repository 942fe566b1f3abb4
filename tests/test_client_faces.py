"""One suite of recorded bytes for all faces of the client library: what is sent, and what each call becomes.

A row has a script for each connection, the calls of the program, and what they return or raise. Every face runs it.
"""

import asyncio
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import uvloop
from fake_server import FakeServer, Handler, Peer, fake_server, in_turn

from kvss_gevent import (
    AsyncKVClient,
    AsyncKVPool,
    KVBadRequest,
    KVClient,
    KVConnectError,
    KVConnectionLost,
    KVError,
    KVForbidden,
    KVPool,
    KVProtocolError,
    KVServerError,
    KVTimeout,
    KVUnauthorized,
    KVUpgradeRequired,
    Stats,
)

LIMIT_S = 20.0
CUE = "cue"
"""In a script: wait until the program comes to the step `cue`. That step waits for what the script then sends."""
ENDED = "ended"
"""A step: wait until the server has ended so many connections."""


@dataclass(frozen=True)
class Raises:
    """An error that a call raises: its kind, a pattern of its whole text, and the types of its results."""

    kind: type[KVError] | type[ValueError] | type[TypeError]
    text: str = ".*"
    results: tuple[type, ...] = ()

    def check(self, error: BaseException, port: int) -> None:
        assert type(error) is self.kind, repr(error)
        assert re.fullmatch(self.text.replace("<server>", f"127.0.0.1:{port}"), str(error)), str(error)
        if isinstance(error, KVError):
            assert tuple(map(type, error.results)) == self.results


@dataclass(frozen=True)
class Row:
    """connections: for each, pairs of how many lines to read and the bytes to answer with; it is closed at the end.

    A number instead of bytes is a wait in seconds. calls: a method, its arguments, and the result or error.
    """

    name: str
    connections: tuple[Sequence[tuple[int, bytes | float | str]], ...]
    calls: Sequence[tuple[Any, ...]]
    sent: Sequence[bytes] | None = None
    options: dict[str, Any] = field(default_factory=dict)


GET = ("get", b"k")
SENT_GET = b"KV/1.0 GET k"
RIGHT = ((1, b"200 OK right\n"),)
BIG = b"v" * 3_000_000
STATS = b"200 OK uptime: 1 day, 0:05:23; connections: 1; commands_processed: 6; get_requests: 3; put_requests: 2; "
LOGIN = {"user": "ann", "password": "open  sesame "}
SENT_LOGIN = b"KV/1.0 AUTH ann open  sesame "


def refusal(reply: bytes, kind: type[KVError]) -> Row:
    text = f": <server> answered {reply.decode()}"
    return Row(
        f"{reply.decode()} is an error and the connection stays",
        (((1, reply + b"\n"), (1, reply + b"\n"), (1, reply + b"\n"), *RIGHT),),
        [
            (*GET, Raises(kind, "GET k" + text)),
            ("put", b"a b"[:1], b"v", Raises(kind, "PUT a" + text)),
            ("stats", Raises(kind, "STATS" + text)),
            (*GET, b"right"),
        ],
    )


def lie(call: tuple[Any, ...], reply: bytes) -> Row:
    return Row(
        f"{call[0]} answered by {reply!r} is an error and ends the connection",
        (((1, reply + b"\n"), (1, 5.0)), RIGHT),
        [(*call, Raises(KVProtocolError, "[A-Z]+( k)?: <server> does not keep to KV/1.0: .*")), (*GET, b"right")],
    )


ROWS = [
    Row(
        "every result",
        (
            (
                (1, b"201 CREATED\n"),
                (1, b"200 OK\n"),
                (1, b"200 OK a  b \n"),
                (1, b"404 NOT_FOUND\n"),
                (1, b"204 NO_CONTENT\n"),
                (1, b"404 NOT_FOUND\n"),
                (1, STATS + b"del_requests: 1; keys_stored: 0\n"),
            ),
        ),
        [
            ("put", b"k", b"a\r", True),
            ("put", b"k", b"a  b ", False),
            ("get", b"k", b"a  b "),
            ("get", b"\xc3\xa9\r", None),
            ("delete", b"k", True),
            ("delete", b"k", False),
            ("stats", Stats(86723, 0, 6, 1, 3, 2, 1)),
        ],
        [
            b"KV/1.0 PUT k a\r\r",
            b"KV/1.0 PUT k a  b ",
            SENT_GET,
            b"KV/1.0 GET \xc3\xa9\r\r",
            b"KV/1.0 DEL k",
            b"KV/1.0 DEL k",
            b"KV/1.0 STATS",
        ],
    ),
    Row(
        "text in and out",
        (
            ((1, b"201 CREATED\n"), (1, "200 OK größe\n".encode()), (1, b"404 NOT_FOUND\n"), (1, b"200 OK \xff\n")),
            RIGHT,
        ),
        [
            ("put", "schlüssel", "größe", True),
            ("get", "schlüssel", "größe"),
            ("get", "k", None),
            ("get", "k", Raises(KVProtocolError, "GET k: <server> does not keep to KV/1.0: .*utf-8.*")),
            ("get", "k", "right"),
            ("get", b"k", Raises(TypeError, 'with encoding="utf-8" a key is str, not bytes')),
        ],
        ["KV/1.0 PUT schlüssel größe".encode(), "KV/1.0 GET schlüssel".encode(), SENT_GET, SENT_GET, SENT_GET],
        {"encoding": "utf-8"},
    ),
    Row(
        "keys that expire",
        (
            (
                (1, b"201 CREATED\n"),
                (1, b"200 OK\n"),
                (1, b"404 NOT_FOUND\n"),
                (1, b"200 OK 59\n"),
                (1, b"200 OK -1\n"),
                (1, b"404 NOT_FOUND\n"),
                (1, b"200 OK\n"),
                (1, b"404 NOT_FOUND\n"),
                (1, b"400 BAD_REQUEST\n"),
                (1, b"200 OK soon\n"),
            ),
        ),
        [
            ("put", b"k", b"a b", {"ttl_s": 60}, True),
            ("expire", b"k", 1_000_000_000, True),
            ("expire", b"k", 1, False),
            ("ttl", b"k", 59),
            ("ttl", b"k", -1),
            ("ttl", b"k", None),
            ("persist", b"k", True),
            ("persist", b"k", False),
            ("ttl", b"k", Raises(KVBadRequest, "TTL k: <server> answered 400 BAD_REQUEST")),
            ("expire", b"k", 0, Raises(ValueError, "ttl_s is 1 to 1000000000 seconds, not 0")),
            ("put", b"k", b"v", {"ttl_s": 1.5}, Raises(TypeError, "ttl_s is a whole number of seconds, not 1.5")),
            ("ttl", b"k", Raises(KVProtocolError)),
        ],
        [
            b"KV/1.0 PUTEX 60 k a b",
            b"KV/1.0 EXPIRE k 1000000000",
            b"KV/1.0 EXPIRE k 1",
            *[b"KV/1.0 TTL k"] * 3,
            *[b"KV/1.0 PERSIST k"] * 2,
            *[b"KV/1.0 TTL k"] * 2,
        ],
    ),
    Row(
        "what cannot be sent is not sent",
        (),
        [
            ("get", b"", Raises(ValueError, "a key has 1 to 511 bytes, this one has 0")),
            ("get", b"k" * 512, Raises(ValueError, "a key has 1 to 511 bytes, this one has 512")),
            ("delete", b"a b", Raises(ValueError, "a key must not contain a space or a line feed: 'a b'")),
            ("put", b"a\nb", b"v", Raises(ValueError, r"a key must not contain a space or a line feed: 'a\\nb'")),
            ("get", b"\xff", Raises(ValueError, r"a key is UTF-8: '\\xff'")),
            ("put", b"k", b"", Raises(ValueError, "a value must have at least one byte")),
            ("put", b"k", b"a\nKV/1.0 DEL b", Raises(ValueError, "a value must not contain a line feed.*")),
            ("put", b"k", b"\xc3", Raises(ValueError, "a value is UTF-8.*")),
            ("get", "k", Raises(TypeError, 'a key is bytes, not str, unless the client has encoding="utf-8"')),
            ("put", b"k", 5, Raises(TypeError, "a value is bytes, not int")),
        ],
        [],
    ),
    *(
        refusal(reply, kind)
        for reply, kind in (
            (b"400 BAD_REQUEST", KVBadRequest),
            (b"401 UNAUTHORIZED", KVUnauthorized),
            (b"403 FORBIDDEN", KVForbidden),
            (b"426 UPGRADE_REQUIRED", KVUpgradeRequired),
            (b"500 SERVER_ERROR", KVServerError),
        )
    ),
    *(lie(GET, reply) for reply in (b"<html>", b"", b"\xff\x00\x1b[2J", b"200 OK", b"200 OK ", b"201 CREATED")),
    *(lie(GET, reply) for reply in (b"200 ok v", b"404 NOT_FOUND k", b"HTTP/1.1 400 Bad Request", b"499 WHAT")),
    *(lie(("put", b"k", b"v"), reply) for reply in (b"200 OK v", b"404 NOT_FOUND", b"204 NO_CONTENT")),
    *(lie(("delete", b"k"), reply) for reply in (b"200 OK", b"201 CREATED")),
    *(lie(("stats",), reply) for reply in (b"200 OK", b"200 OK v", b"404 NOT_FOUND")),
    *(
        Row(
            f"{extra!r} behind a reply",
            (((1, b"200 OK first\n" + extra), (1, 5.0)), RIGHT),
            [
                (*GET, Raises(KVProtocolError, "GET k: <server> .*: it sent a reply too many, '.*'", (bytes,))),
                (*GET, b"right"),
            ],
        )
        for extra in (b"200 OK wrong\n", b"200 OK wr", b"\n", b"500 SERVER_ERROR\n")
    ),
    Row(
        "a reply that nobody asked for is not read as the next",
        (((1, b"200 OK first\n"), (0, CUE), (0, b"200 OK wrong\n"), (1, 5.0)), RIGHT),
        [(*GET, b"first"), (CUE,), ("put", b"k", b"v", Raises(KVProtocolError, r".* '200 OK wrong\\n' unasked"))],
        [SENT_GET],
    ),
    Row(
        "a late reply is not read as the next",
        (((1, CUE), (0, b"200 OK late\n"), (1, 5.0)), RIGHT),
        [
            (*GET, Raises(KVTimeout, "GET k: no reply from <server>: none came within 0.5 s")),
            (CUE,),
            (*GET, b"right"),
        ],
        options={"timeout_s": 0.5},
    ),
    Row(
        "bytes that drip do not stretch the deadline",
        (((1, b"2"), *[(0, 0.05), (0, b"0")] * 200), RIGHT),
        [(*GET, Raises(KVTimeout, "GET k: no reply from <server>: only a part of it came within 0.5 s"))],
        options={"timeout_s": 0.5},
    ),
    Row(
        "a reply in single bytes is whole",
        (((1, b""), *((0, bytes([byte])) for byte in "200 OK größe\n".encode()), (1, b"404 NOT_FOUND\n")),),
        [(*GET, "größe".encode()), (*GET, None)],
    ),
    *(
        Row(
            f"a connection that ends behind {data!r} is told, and nothing is sent twice",
            (((1, data),), RIGHT),
            [
                ("put", b"k", b"v", Raises(KVConnectionLost, f"PUT k: lost the connection to <server>: .* {where}")),
                (*GET, b"right"),
            ],
            [b"KV/1.0 PUT k v", SENT_GET],
        )
        for data, where in ((b"200 OK ri", "closed it in the middle of a reply"), (b"", "closed it before the reply"))
    ),
    Row(
        "an idle connection that ended is replaced",
        (((1, b"200 OK first\n"),), RIGHT),
        [(*GET, b"first"), (ENDED, 1), ("put", b"k", b"v", Raises(KVProtocolError)), ("connections", 2)],
        [SENT_GET, b"KV/1.0 PUT k v"],
    ),
    Row(
        "a full server says 500 and closes",
        (((0, b"500 SERVER_ERROR\n"),), ((0, b"500 SERVER_ERROR\n"),), RIGHT),
        [
            (*GET, Raises(KVServerError, "GET k: <server> answered 500 SERVER_ERROR")),
            (ENDED, 1),
            ([GET, GET], Raises(KVConnectionLost, ".*", (KVServerError,))),
            (ENDED, 2),
            (*GET, b"right"),
        ],
    ),
    Row(
        "500 on an idle connection",
        (((1, b"200 OK first\n"), (0, CUE), (0, b"500 SERVER_ERROR\n")), RIGHT),
        [(*GET, b"first"), (CUE,), (ENDED, 1), ("put", b"k", b"v", Raises(KVServerError)), (*GET, b"right")],
        [SENT_GET, SENT_GET],
    ),
    Row(
        "a pipeline answers in order",
        (((4, b"201 CREATED\n200 OK 1\n"), (0, b"404 NOT_FOUND\n204 NO_CONTENT\n"), (1, b"404 NOT_FOUND\n")),),
        [
            ([], []),
            ([("put", b"a", b"1"), ("get", b"a"), ("get", b"b"), ("delete", b"a")], [True, b"1", None, True]),
            ([("expire", b"a", 5)], [False]),
        ],
        [b"KV/1.0 PUT a 1", b"KV/1.0 GET a", b"KV/1.0 GET b", b"KV/1.0 DEL a", b"KV/1.0 EXPIRE a 5"],
    ),
    Row(
        "a refused request in a pipeline",
        (((3, b"201 CREATED\n400 BAD_REQUEST\n200 OK v\n"), (3, b"200 OK\n500 SERVER_ERROR\n200 OK v\n"), *RIGHT),),
        [
            (
                [("put", b"a", b"1"), ("get", b"b"), ("get", b"a")],
                Raises(KVBadRequest, "GET b: .*", (bool, KVBadRequest, bytes)),
            ),
            (
                [("put", b"a", b"1"), ("get", b"b"), ("get", b"a")],
                {"raise_errors": False},
                [False, KVServerError, b"v"],
            ),
            (*GET, b"right"),
        ],
    ),
    Row(
        "a cut pipeline keeps its results and is not sent again",
        (((4, b"201 CREATED\n400 BAD_REQUEST\n200 O"),), RIGHT),
        [
            (
                [("put", b"a", b"1"), ("put", b"b", b"2"), ("get", b"a"), ("put", b"c", b"3")],
                Raises(KVConnectionLost, "GET a: .*", (bool, KVBadRequest)),
            ),
            (*GET, b"right"),
        ],
        [b"KV/1.0 PUT a 1", b"KV/1.0 PUT b 2", b"KV/1.0 GET a", b"KV/1.0 PUT c 3", SENT_GET],
    ),
    Row(
        "a lie in a pipeline",
        (((2, b"200 OK 1\n201 CREATED\n"), (1, 5.0)), RIGHT),
        [([GET, GET], Raises(KVProtocolError, "GET k: .* is not a reply to this command", (bytes,))), (*GET, b"right")],
    ),
    Row(
        "a giant reply",
        (((1, b"200 OK " + BIG + b"\n"), *RIGHT),),
        [(*GET, BIG), (*GET, b"right")],
    ),
    Row(
        "the limit of a reply",
        (((1, b"200 OK 1234567\n"), (1, b"200 OK 12345678\n"), (1, 5.0)), RIGHT),
        [
            (*GET, b"1234567"),
            (*GET, Raises(KVProtocolError, ".* a reply over the limit of 14 bytes")),
            (*GET, b"right"),
        ],
        options={"max_reply_bytes": 14},
    ),
    Row(
        "every connection logs in first",
        (((1, b"200 OK authenticated\n"), (1, b"200 OK first\n")), ((1, b"200 OK authenticated\n"), *RIGHT)),
        [(*GET, b"first"), (ENDED, 1), (*GET, b"right")],
        [SENT_LOGIN, SENT_GET, SENT_LOGIN, SENT_GET],
        LOGIN,
    ),
    Row(
        "a login that is refused",
        (((1, b"401 UNAUTHORIZED\n"), (1, 5.0)), ((1, b"400 BAD_REQUEST\n"), (1, 5.0))),
        [
            (*GET, Raises(KVUnauthorized, "(AUTH ann|GET k): <server> answered 401 UNAUTHORIZED")),
            (*GET, Raises(KVBadRequest, "(AUTH ann|GET k): <server> answered 400 BAD_REQUEST")),
        ],
        [SENT_LOGIN, SENT_LOGIN],
        LOGIN,
    ),
    Row(
        "a login without a reply: the command was not sent",
        (((1, b""),), ((1, 0.5),)),
        [
            ("put", b"k", b"v", Raises(KVConnectError, "PUT k: cannot connect to <server>: no reply to AUTH ann: .*")),
            ("put", b"k", b"v", Raises(KVConnectError, "PUT k: cannot connect to <server>: no reply to AUTH ann: .*")),
        ],
        [SENT_LOGIN, SENT_LOGIN],
        {**LOGIN, "timeout_s": 0.2},
    ),
]


@dataclass
class Cue:
    """The program's word to the script, and the script's that it has sent what was to come."""

    given: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)


def playing(script: Sequence[tuple[int, bytes | float | str]], cue: Cue) -> Handler:
    def handle(peer: Peer) -> None:
        for lines, answer in script:
            for _ in range(lines):
                if not peer.line():
                    return
            if answer == CUE:
                assert cue.given.wait(LIMIT_S)
            elif isinstance(answer, float):
                peer.stop.wait(answer)
            elif isinstance(answer, bytes):
                try:
                    peer.send(answer)
                finally:
                    if cue.given.is_set():
                        cue.done.set()

    return handle


Step = tuple[Any, ...]
Play = Callable[[FakeServer, Row, Cue], None]


def until(step: Step, server: FakeServer, cue: Cue) -> Iterator[None]:
    """Take a step that waits for the server: come back again and again until this ends."""
    if step[0] == CUE:
        cue.given.set()
    deadline_s = time.monotonic() + LIMIT_S
    while not (cue.done.is_set() if step[0] == CUE else server.ended >= step[1]):
        assert time.monotonic() < deadline_s, step
        yield
    yield  # an event loop reads what has come


def call_of(kv: Any, step: Step) -> Any:
    """Make the call of a step: a method with its arguments, or a pipeline of several."""
    method, *arguments, _ = step
    keywords = arguments.pop() if arguments and isinstance(arguments[-1], dict) else {}
    if isinstance(method, str):
        return getattr(kv, method)(*arguments, **keywords)
    pipeline = kv.pipeline()
    for name, *queued in method:
        getattr(pipeline, name)(*queued)
    return pipeline.execute(**keywords)


def compare(result: Any, expected: Any, port: int) -> None:
    if isinstance(expected, Raises):
        assert isinstance(result, BaseException), f"{result!r} instead of {expected}"
        expected.check(result, port)
    elif isinstance(result, BaseException):
        raise result
    elif isinstance(expected, list) and isinstance(result, list):
        shown = [type(one) if isinstance(one, KVError) else one for one in result]
        assert shown == expected
    else:
        assert result == expected
        assert type(result) is type(expected)


def play_sync(face: type[KVClient] | type[KVPool], server: FakeServer, row: Row, cue: Cue) -> None:
    with face("127.0.0.1", server.port, **{"timeout_s": LIMIT_S, **row.options}) as kv:
        for step in row.calls:
            if step[0] in (CUE, ENDED):
                for _ in until(step, server, cue):
                    time.sleep(0.001)
            elif step[0] == "connections":
                assert server.accepted == step[1]
            else:
                try:
                    result = call_of(kv, step)
                except Exception as error:
                    result = error
                compare(result, step[-1], server.port)


def play_async(
    face: type[AsyncKVClient] | type[AsyncKVPool],
    server: FakeServer,
    row: Row,
    cue: Cue,
    loops: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
) -> None:
    async def play() -> None:
        async with face("127.0.0.1", server.port, **{"timeout_s": LIMIT_S, **row.options}) as kv:
            for step in row.calls:
                if step[0] in (CUE, ENDED):
                    for _ in until(step, server, cue):
                        await asyncio.sleep(0.001)
                elif step[0] == "connections":
                    assert server.accepted == step[1]
                else:
                    try:
                        result = await call_of(kv, step)
                    except Exception as error:
                        result = error
                    compare(result, step[-1], server.port)

    with asyncio.Runner(loop_factory=loops) as runner:
        runner.run(play())


FACES: dict[str, Play] = {
    "KVClient": partial(play_sync, KVClient),
    "KVPool": partial(play_sync, KVPool),
    "AsyncKVClient": partial(play_async, AsyncKVClient),
    "AsyncKVClient on uvloop": partial(play_async, AsyncKVClient, loops=uvloop.new_event_loop),
    "AsyncKVPool": partial(play_async, AsyncKVPool),
}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
@pytest.mark.parametrize("face", FACES)
def test_recorded_bytes(face: str, row: Row) -> None:
    cue = Cue()
    with fake_server(in_turn(*(playing(script, cue) for script in row.connections or ((),)))) as server:
        FACES[face](server, row, cue)
        if row.sent is not None:
            assert server.seen == list(row.sent)


@pytest.mark.full
@pytest.mark.timeout(200)
def test_recorded_bytes_in_a_program_that_gevent_has_patched() -> None:
    code = (
        "from gevent import monkey; monkey.patch_all(); import sys, pytest\n"
        "sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', '-p', 'no:xdist', *sys.argv[1:]]))"
    )
    child = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__)), "-k", "not Async and not patched"],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert child.returncode == 0, child.stdout + child.stderr
