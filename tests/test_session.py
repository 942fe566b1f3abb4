"""The session against the conformance table, an independent oracle, and its own bounds; no socket anywhere."""

import logging
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from plain_stores import BatchStore, FailingMemoryStore, FailingStore
from reference_server import State, answer, is_of_another_protocol

from kvss_gevent.conformance import CASES
from kvss_gevent.core.conversation import Limits
from kvss_gevent.core.logged_conversation import logged
from kvss_gevent.core.service import Service
from kvss_gevent.core.session import Session
from kvss_gevent.stores.base import Store
from kvss_gevent.stores.memory import MemoryStore

WAYS = {
    "inline": lambda limits: Service(MemoryStore(), limits),
    "logged": lambda limits: Service(MemoryStore(), limits, converse=logged),
    "batch": lambda limits: Service(BatchStore(), limits),
    "batch stopping early": lambda limits: Service(BatchStore(at_most=2), limits),
}
PLAIN = [case for case in CASES if case.plain and case.form in (None, "readme")]


def feed(session: Session, *packets: bytes) -> bytes:
    out = b""
    for packet in packets:
        out += session.receive(packet)
        while session.more:
            out += session.proceed()
    return out


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


def test_a_batch_is_one_call_to_the_store() -> None:
    store = BatchStore()
    feed(Session(Service(store)), b"KV/1.0 PUT a 1\nnonsense\nKV/1.0 GET a\nKV/1.0 DEL a\n")
    assert [len(batch) for batch in store.batches] == [1, 2], "a refused line stands between"


def test_a_store_that_fails_costs_its_batch_and_recovers(caplog: pytest.LogCaptureFixture) -> None:
    store = FailingStore()
    session = Session(Service(store))
    with caplog.at_level(logging.ERROR, "kvss"):
        out = feed(session, b"KV/1.0 PUT a 1\nKV/1.0\nKV/1.0 GET a\n", b"KV/1.0 GET a\n")
    assert out == b"500 SERVER_ERROR\n400 BAD_REQUEST\n500 SERVER_ERROR\n500 SERVER_ERROR\n"
    assert set(caplog.messages) == {"the store failed: the disk is full"}
    store.fault = None
    assert feed(session, b"KV/1.0 GET a\n") == b"404 NOT_FOUND\n"


def test_lines_that_failed_are_not_run_a_second_time(caplog: pytest.LogCaptureFixture) -> None:
    store = FailingStore()
    session = Session(Service(store))
    requests = b"KV/1.0 PUT a 1\nKV/1.0 GET a\nKV/1.0 DEL a\nKV/1.0 STATS\n"
    replies = feed(session, requests, b"KV/1.0 GET a\n").split(b"\n")
    assert replies[:3] == [b"500 SERVER_ERROR"] * 3
    assert b"commands_processed: 3; get_requests: 1; put_requests: 1; del_requests: 1;" in replies[3]
    assert replies[4:] == [b"500 SERVER_ERROR", b""]
    assert store.batches == []
    assert set(caplog.messages) == {"the store failed: the disk is full"}
    store.fault = None
    assert feed(session, b"KV/1.0 PUT a 1\nKV/1.0 GET a\n") == b"201 CREATED\n200 OK 1\n"


def stores_that_break() -> list[Store]:
    planted = ZeroDivisionError("planted")
    broken = FailingStore()
    broken.fault = planted
    return [broken, FailingMemoryStore()]


@pytest.mark.parametrize("store", stores_that_break(), ids=["batch", "table"])
def test_a_mistake_in_a_store_is_a_500_with_a_traceback_in_the_log(store, caplog: pytest.LogCaptureFixture) -> None:
    session = Session(Service(store))
    assert feed(session, b"KV/1.0 PUT a 1\nKV/1.0 PUT b 1\n") == b"500 SERVER_ERROR\n500 SERVER_ERROR\n"
    assert caplog.records
    assert all(record.exc_info for record in caplog.records)


def test_a_full_memory_store_refuses_put_and_nothing_else() -> None:
    session = Session(Service(MemoryStore(max_bytes=1000)))
    out = feed(
        session, b"KV/1.0 PUT a " + b"x" * 600 + b"\nKV/1.0 PUT b " + b"x" * 600 + b"\nKV/1.0 GET a\nKV/1.0 DEL a\n"
    )
    assert out.split(b"\n")[:2] == [b"201 CREATED", b"500 SERVER_ERROR"]
    assert out.endswith(b"204 NO_CONTENT\n")
    assert feed(session, b"KV/1.0 PUT b " + b"x" * 600 + b"\n") == b"201 CREATED\n"


@pytest.mark.parametrize("store", [MemoryStore(), BatchStore()], ids=["table", "batch"])
def test_a_traced_session_logs_requests_and_codes_and_no_value(store, caplog: pytest.LogCaptureFixture) -> None:
    session = Service(store, Limits(slice_lines=2), converse=logged).open()
    with caplog.at_level(logging.DEBUG, "kvss"):
        feed(session, b"KV/1.0 PUT a secret\nKV/1.0 GET a\nKV/1.0 G", b"ET a\n", b"my password\nKV/1.0 STATS\r\n")
    assert caplog.messages == [
        "PUT 'a' -> 201",
        "GET 'a' -> 200",
        "GET 'a' -> 200",
        "refused -> 426 UPGRADE_REQUIRED",
        "STATS -> 200",
    ]


def test_nothing_is_answered_after_the_end() -> None:
    for way in WAYS.values():
        session = way(Limits()).open()
        assert (
            feed(session, b"KV/1.0 QUIT\nKV/1.0 PUT a 1\n", b"KV/1.0 PUT a 1\n", b"KV/1.0 PUT a 1\nKV/1.0 GET a\n")
            == b"200 OK bye\n"
        )
        assert session.closed


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0:00:00"),
        (323, "0:05:23"),
        (36_000, "10:00:00"),
        (86_400, "1 day, 0:00:00"),
        (3 * 86_400 + 59, "3 days, 0:00:59"),
    ],
)
def test_uptime(seconds: int, shown: str) -> None:
    service = Service(MemoryStore())
    service.stats.started_s -= seconds
    assert feed(Session(service), b"KV/1.0 STATS\n").startswith(f"200 OK uptime: {shown}; connections: 0;".encode())


def test_lab_stats() -> None:
    service = Service(MemoryStore(), stats_format="lab")
    service.stats.started_s -= 323
    assert feed(Session(service), b"KV/1.0 PUT a 1\n" * 5 + b"KV/1.0 STATS\n").endswith(
        b"\n200 OK keys=1 uptime=323s served=6\n"
    )


def test_a_service_makes_the_conversations_that_it_was_told_to_make() -> None:
    made = []

    class Other(Session):
        def __init__(self, service: Service) -> None:
            super().__init__(service)
            made.append(self)

    service = Service(MemoryStore(), converse=Other)
    assert service.open() is made[0]
    assert type(Service(MemoryStore()).open()) is Session
