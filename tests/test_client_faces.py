"""One suite of recorded bytes for all faces of the client library: what is sent, and what each call becomes.

A row has a script for each connection, the calls of the program, and what they return or raise. Every face runs it.
"""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import face_connections
import face_replies
import pytest
import uvloop
from face_rows import CUE, ENDED, Raises, Row
from fake_server import FakeServer, Handler, Peer, fake_server, in_turn

from kvss_gevent import AsyncKVClient, AsyncKVPool, KVClient, KVError, KVPool

LIMIT_S = 20.0
ROWS = [*face_replies.ROWS, *face_connections.ROWS]


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
