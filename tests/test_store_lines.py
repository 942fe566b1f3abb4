"""Request lines that the disk store runs itself get the replies of the memory store, wherever the packets are cut."""

import shutil
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_session import feed, streams

from kvss_gevent.core.conversation import Limits
from kvss_gevent.core.service import Service
from kvss_gevent.core.session import Session
from kvss_gevent.protocol.wire import GET, Verb
from kvss_gevent.stores.base import StoreError
from kvss_gevent.stores.disk.file import MARKER_KEY
from kvss_gevent.stores.disk.group_commit import coalesced
from kvss_gevent.stores.disk.store import DiskStore
from kvss_gevent.stores.lines import commands_of, lines_done
from kvss_gevent.stores.memory import MemoryStore

LIMITS = Limits(line_bytes=100, reply_bytes=60, slice_lines=4)


@pytest.fixture(params=[True, False], ids=["on a thread", "in the hub"])
def session(request: pytest.FixtureRequest) -> Iterator[Session]:
    with tempfile.TemporaryDirectory() as directory:
        store = coalesced(DiskStore(Path(directory) / "data.kv", sync="none"), on_thread=request.param)
        yield Session(Service(store))
        store.close()


@settings(deadline=None, max_examples=60)
@given(streams, st.lists(st.integers(0, 400), max_size=8), st.booleans())
def test_replies_are_those_of_the_memory_store(stream: bytes, cuts: list[int], on_thread: bool) -> None:
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    packets = [stream[a:b] for a, b in pairwise(edges)]
    directory = tempfile.mkdtemp()
    store = coalesced(DiskStore(Path(directory) / "data.kv", sync="none"), on_thread=on_thread)
    try:
        expected = feed(Session(Service(MemoryStore(), LIMITS)), *packets)
        assert feed(Session(Service(store, LIMITS)), *packets) == expected
    finally:
        store.close()
        shutil.rmtree(directory)


def test_keys_at_their_limits(session: Session) -> None:
    key = b"k" * 511
    stream = b"KV/1.0 PUT %s v\nKV/1.0 GET %s\nKV/1.0 DEL %s\n" % (key, key, key)
    assert feed(session, stream) == b"201 CREATED\n200 OK v\n204 NO_CONTENT\n"
    for verb in (b"PUT", b"GET", b"DEL"):
        line = b"KV/1.0 %s %sk v" % (verb, key) if verb == b"PUT" else b"KV/1.0 %s %sk" % (verb, key)
        assert feed(session, b"KV/1.0 GET a\n" + line + b"\nKV/1.0 GET a\n") == (
            b"404 NOT_FOUND\n400 BAD_REQUEST\n404 NOT_FOUND\n"
        )
    assert feed(session, b"KV/1.0 GET \nKV/1.0 PUT  v\nKV/1.0 PUT a \nKV/1.0 PUT a\n") == b"400 BAD_REQUEST\n" * 4


@pytest.mark.parametrize("on_thread", [True, False])
def test_replies_of_one_slice_stay_bounded(on_thread: bool, tmp_path: Path) -> None:
    store = coalesced(DiskStore(tmp_path / "data.kv", sync="none"), on_thread=on_thread)
    limited = Session(Service(store, Limits(reply_bytes=1000)))
    feed(limited, b"KV/1.0 PUT a " + b"x" * 600 + b"\n")
    for stream in (b"KV/1.0 GET a\n" * 20, b"KV/1.0 DEL b\n" + b"KV/1.0 GET a\n" * 20):
        parts = [limited.receive(stream)]
        while limited.more:
            parts.append(limited.proceed())
        assert b"".join(parts).count(b"200 OK " + b"x" * 600 + b"\n") == 20
        assert max(map(len, parts)) < 1000 + 2 * 610
    store.close()


def test_a_store_that_has_logged_its_fault_is_not_logged_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = coalesced(DiskStore(tmp_path / "data.kv", max_bytes=1 << 20), on_thread=True)
    for trace in (None, lambda *_: None):  # with a trace the lines are taken apart
        full = Session(Service(store, trace=trace))
        assert feed(full, b"KV/1.0 PUT a " + b"x" * 1_040_000 + b"\nKV/1.0 GET a\n").startswith(b"500 SERVER_ERROR\n")
    assert len(caplog.messages) == 1
    store.close()


def test_the_marker_is_no_client_s_key(session: Session) -> None:
    assert feed(session, b"KV/1.0 GET %s\nKV/1.0 DEL %s\n" % (MARKER_KEY, MARKER_KEY)) == b"400 BAD_REQUEST\n" * 2
    assert feed(session, b"KV/1.0 PUT %s 2\n" % MARKER_KEY) == b"400 BAD_REQUEST\n"
    assert feed(session, b"KV/1.0 STATS\n").endswith(b"keys_stored: 0\n")


def test_counters_count_what_the_store_ran(session: Session) -> None:
    feed(session, b"KV/1.0 PUT a 1\nKV/1.0 GET a\nKV/1.0 GET b\nKV/1.0 DEL a\nKV/1.0 DEL a\n")
    assert b"commands_processed: 5; get_requests: 2; put_requests: 1; del_requests: 2;" in feed(
        session, b"KV/1.0 STATS\n"
    )


def test_commands_and_results_as_lines() -> None:
    lines = [b"KV/1.0 PUT a 1", b"KV/1.0 GET a", b"KV/1.0 DEL a", b"KV/1.0 GET a", b"KV/1.0 STATS", b"KV/1.0 GET a"]
    batch = commands_of(lines)
    assert batch == [(Verb.PUT, b"a", b"1"), (GET, b"a", b""), (Verb.DEL, b"a", b""), (GET, b"a", b"")]
    done = lines_done(batch, [True, b"1", StoreError("no"), None])
    assert done == ([b"201 CREATED", b"200 OK 1", b"500 SERVER_ERROR", b"404 NOT_FOUND"], 1, 1)
    assert lines_done(batch, [False]) == ([b"200 OK"], 1, 0)
