"""The session against the conformance table, an independent oracle, and its own bounds; no socket anywhere."""

from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from plain_stores import BatchStore
from reference_server import State, answer, is_of_another_protocol
from session_calls import feed

from kvss_gevent.conformance import CASES
from kvss_gevent.core.conversation import Limits
from kvss_gevent.core.logged_conversation import logged
from kvss_gevent.core.service import Service
from kvss_gevent.core.session import Session
from kvss_gevent.stores.memory import MemoryStore

WAYS = {
    "inline": lambda limits: Service(MemoryStore(), limits),
    "logged": lambda limits: Service(MemoryStore(), limits, converse=logged),
    "batch": lambda limits: Service(BatchStore(), limits),
    "batch stopping early": lambda limits: Service(BatchStore(at_most=2), limits),
}
PLAIN = [case for case in CASES if case.plain and case.form in (None, "readme")]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("cut", [0, 1, 7])
def test_conformance(cut: int, way: str) -> None:
    for case in (case.rendered(b"key") for case in PLAIN):
        stream = b"".join(case.sent)
        step = cut * 1013 if len(stream) > 100_000 else cut  # byte by byte through a megabyte shows nothing new
        packets = [stream[i : i + step] for i in range(0, len(stream), step)] if step else case.sent
        session = WAYS[way](Limits()).open()
        received = feed(session, *packets)
        assert case.accepts(received), (case.id, received[-300:])
        assert session.closed == case.closes, case.id


def test_the_table_has_enough_plain_cases_to_mean_something() -> None:
    assert len(PLAIN) > 50


words = st.sampled_from(
    [
        b"KV/1.0",
        b"GET",
        b"PUT",
        b"DEL",
        b"STATS",
        b"QUIT",
        b"kv/1.0",
        b"HTTP/1.1",
        b"a",
        b"b",
        b"\xc3\xa9",
        b"\xff",
        b"",
        b"x" * 30,
    ]
)
plain = st.sampled_from(
    [b"KV/1.0 GET a", b"KV/1.0 PUT a 1", b"KV/1.0 PUT b \xc3\xa9 2", b"KV/1.0 DEL a", b"KV/1.0 GET b"]
)
line = plain | st.lists(words, max_size=5).map(b" ".join)
streams = st.lists(st.tuples(line, st.sampled_from([b"\n", b"\n", b"\r\n"])), max_size=25).map(
    lambda parts: b"".join(part + end for part, end in parts)
)
LIMITS = Limits(line_bytes=40, reply_bytes=60, slice_lines=3)


def by_the_oracle(stream: bytes) -> bytes:
    """What the reference server answers, line by line, with the over-long line as the one thing it does not know."""
    state = State("lab")
    out = b""
    for raw in stream.split(b"\n")[:-1]:
        text = raw.removesuffix(b"\r")
        reply, ends = answer(state, raw)
        if len(text) > LIMITS.line_bytes:
            reply, ends = b"400 BAD_REQUEST", is_of_another_protocol(raw[:600].split(b" "))
        out += reply + b"\n"
        if ends:
            break
    return out


@pytest.mark.parametrize("way", WAYS)
@given(stream=streams.filter(lambda stream: b"STATS" not in stream), cuts=st.lists(st.integers(0, 400), max_size=12))
@settings(max_examples=150, deadline=None)
def test_replies_are_the_oracles_wherever_the_stream_is_cut(way: str, stream: bytes, cuts: list[int]) -> None:
    session = Session(WAYS[way](LIMITS))
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    packets = [stream[a:b] for a, b in pairwise(edges) if a < b]
    assert feed(session, *packets) == by_the_oracle(stream)


@pytest.mark.parametrize("way", WAYS)
@given(stream=streams, cut=st.integers(1, 50))
@example(stream=b"KV/1.0 GET a\n\nKV/1.0 STATS\n", cut=1)
@settings(max_examples=100, deadline=None)
def test_stats_agree_wherever_the_stream_is_cut(way: str, stream: bytes, cut: int) -> None:
    def counters(service: Service) -> bytes:
        reply = feed(Session(service), b"KV/1.0 STATS\n")
        return reply[reply.index(b"commands_processed") :]

    whole, cutting = WAYS["inline"](LIMITS), WAYS[way](LIMITS)
    first = feed(Session(whole), stream)
    second = feed(Session(cutting), *(stream[i : i + cut] for i in range(0, len(stream), cut)))
    assert first == second
    assert counters(whole) == counters(cutting)


@pytest.mark.parametrize("way", WAYS)
@given(stream=streams)
@settings(max_examples=100, deadline=None)
def test_no_call_exceeds_a_slice(way: str, stream: bytes) -> None:
    session = Session(WAYS[way](LIMITS))
    out = session.receive(stream)
    while True:
        lines = out.split(b"\n")
        assert len(lines) - 1 <= LIMITS.slice_lines
        # What went before the last reply fits the slice.
        assert sum(len(line) for line in lines[:-2]) <= LIMITS.reply_bytes
        if not session.more:
            break
        out = session.proceed()


def test_stats_in_the_middle_of_a_packet_counts_what_is_before_it() -> None:
    for way in WAYS.values():
        replies = feed(
            Session(way(Limits())),
            b"KV/1.0 PUT a 1\nKV/1.0 GET a\nKV/1.0 GET b\nGET\nKV/1.0 STATS\nKV/1.0 DEL a\nKV/1.0 STATS\n",
        ).split(b"\n")
        assert replies[4].endswith(
            b"commands_processed: 4; get_requests: 2; put_requests: 1; del_requests: 0; keys_stored: 1"
        )
        assert replies[6].endswith(
            b"commands_processed: 6; get_requests: 2; put_requests: 1; del_requests: 1; keys_stored: 0"
        )


def test_an_endless_line_is_not_kept() -> None:
    session = Session(Service(MemoryStore(), Limits(line_bytes=100)))
    for _ in range(1000):
        assert session.receive(b"x" * 1000) == b""
        assert session.partial is not None
        assert len(session.partial) <= 600, "what rule 5b looks at"
    assert session.receive(b"x\nKV/1.0 GET a\n") == b"400 BAD_REQUEST\n404 NOT_FOUND\n"
    assert session.partial is None


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("cut", [1, 3, 10_000])
def test_the_limit_counts_neither_line_feed_nor_carriage_return(end: bytes, cut: int) -> None:
    fits = b"KV/1.0 PUT k " + b"v" * 87
    stream = fits + end + fits + b"v" + end + b"KV/1.0 GET k" + end
    session = Session(Service(MemoryStore(), Limits(line_bytes=100)))
    out = feed(session, *(stream[i : i + cut] for i in range(0, len(stream), cut)))
    assert out == b"201 CREATED\n400 BAD_REQUEST\n200 OK " + b"v" * 87 + b"\n"


@pytest.mark.parametrize("put", [b"PUT", b"PUTEX 99"])
def test_a_large_put_followed_by_many_gets_in_one_packet_stays_within_a_slice(put: bytes) -> None:
    session = Session(Service(MemoryStore()))
    out = session.receive(b"KV/1.0 " + put + b" big " + b"x" * 60_000 + b"\n" + b"KV/1.0 GET big\n" * 400)
    lines = 0
    while out:
        assert len(out) <= (1 << 20) + 60_100
        lines += out.count(b"\n")
        out = session.proceed()
    assert lines == 401


def test_the_partial_line_is_one_object_as_long_as_it_is_one_line() -> None:
    session = Session(Service(MemoryStore()))
    session.receive(b"KV/1.0 GE")
    first = session.partial
    session.receive(b"T ")
    assert session.partial is first
    session.receive(b"a\nKV/1.0")
    assert session.partial is not first


def test_more_may_be_received_while_requests_wait() -> None:
    session = Session(Service(MemoryStore(), Limits(slice_lines=1)))
    first = session.receive(b"KV/1.0 PUT a 1\nKV/1.0 GET a\nKV/1.0 GE")
    assert first == b"201 CREATED\n"
    out = session.receive(b"T b\nKV/1.0 DEL a\n")
    while session.more:
        out += session.proceed()
    assert out == b"200 OK 1\n404 NOT_FOUND\n204 NO_CONTENT\n"


def test_what_is_asked_of_the_table_first_gets_the_replies_of_what_is_received_alone() -> None:
    packets = [
        b"KV/1.0 GET a\n",
        b"KV/1.0 PUT a 1\n",
        b"KV/1.0 GET a\n",
        b"KV/1.0 GET " + b"k" * 200 + b"\n",
        b"KV/1.0 GET b\nKV/1.0 GET a\n" * 2,
        b"KV/1.0 PUT b KV/1.0",
        b" GET a\n",
        b"KV/1.0 PUT b ",
        b"KV/1.0 GET a\n",
        b"KV/1.0 GET b\n",
        b"KV/1.0 STATS\n",
        b"KV/1.0 QUIT\n",
        b"KV/1.0 GET a\n",
    ]
    alone, first = (Session(Service(MemoryStore(), Limits(slice_lines=3))) for _ in range(2))
    found = 0
    for packet in packets:
        first.quiet = True
        reply = first.reply_in_table(packet)
        found += reply is not None
        assert first.quiet is (reply is None)
        assert (first.receive(packet) if reply is None else reply) == alone.receive(packet)
        assert (first.more, first.closed, first.partial) == (alone.more, alone.closed, alone.partial)
    assert found == 2  # the GET that is part of a value is none


def test_nothing_is_answered_after_the_end() -> None:
    for way in WAYS.values():
        session = way(Limits()).open()
        assert (
            feed(session, b"KV/1.0 QUIT\nKV/1.0 PUT a 1\n", b"KV/1.0 PUT a 1\n", b"KV/1.0 PUT a 1\nKV/1.0 GET a\n")
            == b"200 OK bye\n"
        )
        assert session.closed
