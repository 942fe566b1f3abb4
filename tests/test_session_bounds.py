"""A session's bounds where a short way is tempting: whole lines, one line alone, lines while others wait."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_stores import BatchStore, FailingMemoryStore

from kvss_gevent.core import session as session_module
from kvss_gevent.core.conversation import Conversation, Limits
from kvss_gevent.core.login import ReadOnlyStore
from kvss_gevent.core.service import Service
from kvss_gevent.protocol.wire import GET
from kvss_gevent.stores.base import ReplyTable, Store
from kvss_gevent.stores.memory import ENTRY_OVERHEAD_BYTES, MemoryStore

STORES = {"table": MemoryStore, "batch": BatchStore, "batch stopping early": lambda: BatchStore(at_most=2)}


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> Store:
    return STORES[request.param]()


def calls(session: Conversation, packet: bytes) -> list[bytes]:
    """Return what receive and each proceed after it answer."""
    answered = [session.receive(packet)]
    while session.more:
        answered.append(session.proceed())
    return answered


def test_gets_of_a_large_value_in_a_later_packet_stay_within_the_reply_bytes(store: Store) -> None:
    limits = Limits(reply_bytes=100_000)
    session = Service(store, limits).open()
    assert session.receive(b"KV/1.0 PUT big " + b"x" * 60_000 + b"\n") == b"201 CREATED\n"
    reply = b"200 OK " + b"x" * 60_000 + b"\n"
    answered = calls(session, b"KV/1.0 GET big\n" * 40)
    assert b"".join(answered) == reply * 40
    assert max(map(len, answered)) <= limits.reply_bytes + len(reply)


def test_gets_of_what_the_same_packet_stores_stay_within_the_reply_bytes() -> None:
    session = Service(MemoryStore(), Limits(reply_bytes=5000)).open()
    calls(session, b"KV/1.0 PUT largest " + b"x" * 4000 + b"\nKV/1.0 PUT k 1\n")
    answered = calls(session, b"KV/1.0 PUT k " + b"x" * 1000 + b"\n" + b"KV/1.0 GET k\n" * 20)
    assert b"".join(answered) == b"200 OK\n" + (b"200 OK " + b"x" * 1000 + b"\n") * 20
    assert max(map(len, answered)) <= 5000


def test_short_replies_are_in_one_slice_although_a_large_value_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "SLICE_S", 60.0)
    session = Service(MemoryStore(), Limits(reply_bytes=5000)).open()
    calls(session, b"KV/1.0 PUT largest " + b"x" * 500 + b"\nKV/1.0 PUT k 1\n")
    assert len(calls(session, b"KV/1.0 GET none\nKV/1.0 GET k\n" * 100)) == 1


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_line_one_byte_over_the_limit_alone_in_a_packet_is_refused(store: Store, end: bytes) -> None:
    session = Service(store, Limits(line_bytes=100)).open()
    fits = b"KV/1.0 PUT k " + b"v" * 87
    assert len(fits) == 100
    for line, reply in (
        (fits + b"v", b"400 BAD_REQUEST\n"),
        (fits, b"201 CREATED\n"),
        (b"x" * 101, b"400 BAD_REQUEST\n"),
    ):
        assert calls(session, line + end) == [reply]
    assert calls(session, b"KV/1.0 GET k\n") == [b"200 OK " + b"v" * 87 + b"\n"]


@pytest.mark.parametrize("lines", [4, 5, 8, 9])
def test_a_packet_of_more_lines_than_a_slice_takes_as_many_calls_as_it_has_slices(store: Store, lines: int) -> None:
    service = Service(store, Limits(slice_lines=4))
    service.open().receive(b"KV/1.0 PUT a 1\n")
    answered = calls(service.open(), b"KV/1.0 GET a\n" * lines)
    assert b"".join(answered) == b"200 OK 1\n" * lines
    assert max(reply.count(b"\n") for reply in answered) <= 4


def test_a_whole_packet_that_arrives_while_requests_wait_is_answered_after_them(store: Store) -> None:
    session = Service(store, Limits(slice_lines=1)).open()
    assert session.receive(b"KV/1.0 PUT k 1\nKV/1.0 GET k\nKV/1.0 PUT k 2\n") == b"201 CREATED\n"
    assert session.receive(b"KV/1.0 GET k\n") == b"200 OK 1\n"
    assert [session.proceed(), session.proceed(), session.more] == [b"200 OK\n", b"200 OK 2\n", False]


def test_nothing_is_run_behind_http_inside_a_batch(store: Store) -> None:
    session = Service(store).open()
    answered = session.receive(
        b"KV/1.0 PUT before 1\nKV/1.0 GET before\nPOST / HTTP/1.1\nKV/1.0 PUT after 1\nKV/1.0 GET after\n"
    )
    assert answered == b"201 CREATED\n200 OK 1\n426 UPGRADE_REQUIRED\n"
    assert session.closed
    assert store.count() == 1


class AskedStore(MemoryStore):
    """A memory store that counts the GETs for which it is asked, and not only its table."""

    asked = 0

    def _run(self, verb: int, key: bytes, value: bytes) -> bytes:
        """Run, and count."""
        self.asked += verb is GET
        return super()._run(verb, key, value)


def test_behind_a_packet_of_puts_gets_are_found_in_the_table() -> None:
    store = AskedStore()
    session = Service(store).open()
    session.receive(b"KV/1.0 PUT k 1\n" * 20)
    for _ in range(2):
        assert session.receive(b"KV/1.0 GET k\n" * 20) == b"200 OK 1\n" * 20
    assert store.asked == 0


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize(
    "packets",
    [
        [b"KV/1.0 GET a\n"],
        [b"KV/1.0 GET a\r\n"],
        [b"KV/1.0 GET a\nKV/1.0 GET a\n"],
        [b"KV/1.0 GET a\n" * 50],
        [b"KV/1.0 GET a\nKV/1.0 GE", b"T a\nKV/1.0 GET a\n"],
        [b"KV/1.0 GET " + b"k" * 200 + b"\n"],
    ],
)
def test_a_reply_in_the_table_counts_only_after_a_look_whether_others_have_written(
    packets: list[bytes], begun: bool
) -> None:
    def renew() -> bool:
        store.replies.clear()
        return False

    store = BatchStore()
    service = Service(store)
    service.open().receive(b"KV/1.0 PUT a new\nKV/1.0 PUT %b new\n" % (b"k" * 200))
    store.replies = ReplyTable(renew)
    session = service.open()
    if begun:
        session.receive(b"KV/1.0 GET none\n")
    for packet in packets:
        for key in (b"a", b"k" * 200):
            store.replies[b"KV/1.0 GET %b\n" % key] = b"200 OK old\n"
        assert session.receive(packet) == b"200 OK new\n" * packet.count(b"\n")


LINES = st.sampled_from(
    [b"PUT %b %b" % (key, value) for key in (b"a", b"b", b"c" * 511) for value in (b"1", b"a PUT value", b"x" * 70)]
    + [b"PUT a ", b"PUT a", b"PUT  1", b"PUT %b 1" % (b"c" * 512), b"PUTEX 5 b 2", b"GET a", b"DEL b", b"PUTS a 1"]
)


@pytest.mark.parametrize("max_bytes", [None, 2 * ENTRY_OVERHEAD_BYTES + 120])
@given(packets=st.lists(st.lists(LINES, min_size=1, max_size=4), max_size=6))
def test_puts_in_one_packet_do_what_they_do_alone(max_bytes: int | None, packets: list[list[bytes]]) -> None:
    pipelining, alone = (Service(MemoryStore(max_bytes, clock=lambda: 0), Limits(reply_bytes=1000)) for _ in range(2))
    session, other = pipelining.open(), alone.open()
    for packet in packets:
        requests = [b"KV/1.0 " + line + b"\n" for line in packet]
        assert b"".join(calls(session, b"".join(requests))) == b"".join(map(other.receive, requests))
    stats = (one.receive(b"KV/1.0 STATS\n").split(b"; ")[1:] for one in (session, other))
    assert next(stats) == next(stats)
    assert pipelining.store.replies == alone.store.replies
    assert pipelining.bare_store.used_bytes == alone.bare_store.used_bytes
    assert max_bytes is None or pipelining.bare_store.used_bytes <= max_bytes
    assert pipelining.store.replies.largest_bytes >= max(map(len, pipelining.store.replies.values()), default=0)


@pytest.mark.parametrize("times", [1, 2])
def test_puts_to_a_table_that_may_not_be_written_are_refused(times: int) -> None:
    store = MemoryStore()
    Service(store).open().receive(b"KV/1.0 PUT a 1\n")
    reader = Service(ReadOnlyStore(store)).open()
    assert reader.receive(b"KV/1.0 PUT a 2\n" * times) == b"403 FORBIDDEN\n" * times
    assert reader.receive(b"KV/1.0 GET a\n") == b"200 OK 1\n"


@pytest.mark.parametrize("times", [1, 2])
def test_a_key_named_like_the_version_is_not_replaced_by_other_requests(times: int) -> None:
    session = Service(MemoryStore(clock=lambda: 0)).open()
    session.receive(b"KV/1.0 PUT KV/1.0 PUTEX 5 a 1\n")
    assert session.receive(b"KV/1.0 PUTEX 5 a 2\n" * times) == b"201 CREATED\n" + b"200 OK\n" * (times - 1)
    assert session.receive(b"KV/1.0 GET KV/1.0\nKV/1.0 GET a\n") == b"200 OK PUTEX 5 a 1\n200 OK 2\n"


def test_puts_of_a_packet_that_does_not_fit_into_the_memory_are_refused_one_by_one() -> None:
    session = Service(MemoryStore(max_bytes=2 * ENTRY_OVERHEAD_BYTES + 100)).open()
    puts = [b"KV/1.0 PUT b 1\n", b"KV/1.0 PUT c 1\n", b"KV/1.0 PUT a 2\n"]
    created, replaced, refused = b"201 CREATED\n", b"200 OK\n", b"500 SERVER_ERROR\n"
    assert session.receive(b"KV/1.0 PUT a 1\n" * 2) == created + replaced
    assert session.receive(b"".join(puts)) == created + refused + replaced
    assert session.receive(b"KV/1.0 GET a\n") == b"200 OK 2\n"


def test_values_that_grow_in_a_packet_do_not_exceed_the_memory() -> None:
    store = MemoryStore(max_bytes=2 * ENTRY_OVERHEAD_BYTES + 200)
    session = Service(store).open()
    session.receive(b"KV/1.0 PUT a %b\nKV/1.0 PUT a 1\nKV/1.0 PUT b 1\n" % (b"x" * 100))
    grow = [b"KV/1.0 PUT %b %b\n" % (key, b"x" * 100) for key in (b"a", b"b")]
    shrink = b"KV/1.0 PUT a 2\n"
    replaced, refused = b"200 OK\n", b"500 SERVER_ERROR\n"
    assert session.receive(b"".join(grow)) == replaced + refused
    assert store.used_bytes <= 2 * ENTRY_OVERHEAD_BYTES + 200
    assert session.receive(grow[1] + shrink + grow[1]) == refused + replaced * 2
    assert session.receive(b"KV/1.0 GET a\n") == b"200 OK 2\n"


def test_puts_of_a_packet_get_500_and_are_counted_where_the_store_fails_for_all() -> None:
    session = Service(FailingMemoryStore()).open()
    for _ in range(2):
        assert session.receive(b"KV/1.0 PUT k 1\n" * 3) == b"500 SERVER_ERROR\n" * 3
    assert b"commands_processed: 6; get_requests: 0; put_requests: 6;" in session.receive(b"KV/1.0 STATS\n")


@pytest.mark.parametrize("most", ["slice_lines", "reply_bytes"])
def test_a_packet_of_puts_is_answered_in_slices(most: str) -> None:
    session = Service(MemoryStore(), Limits(**{most: 40})).open()
    for _ in range(2):
        session.receive(b"KV/1.0 PUT k 1\n" * 2)
        answered = calls(session, b"KV/1.0 PUT k 1\n" * 100)
        assert len(b"".join(answered).splitlines()) == 100
        assert max(len(one.splitlines()) for one in answered) <= 40
        assert most == "slice_lines" or max(map(len, answered)) <= 40


@pytest.mark.parametrize("key_bytes", [1, 200, 511])
def test_gets_among_long_lines_are_found_in_the_table(key_bytes: int) -> None:
    store = AskedStore()
    session = Service(store).open()
    get, put = b"KV/1.0 GET %b\n" % (b"k" * key_bytes), b"KV/1.0 PUT big " + b"x" * 5000 + b"\n"
    session.receive(b"KV/1.0 PUT %b 1\n" % (b"k" * key_bytes))
    assert session.receive((put + get) * 3) == b"201 CREATED\n200 OK 1\n" + b"200 OK\n200 OK 1\n" * 2
    assert store.asked == 0


@pytest.mark.parametrize(
    ("line", "reply"), [(b"KV/1.0 PUT k v", b"201 CREATED\n"), (b"KV/1.0 PUT k ", b"400 BAD_REQUEST\n")]
)
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("cut", [1, 12, 13, 14])
def test_a_line_that_begins_in_one_packet_and_ends_in_a_plain_one_is_checked_whole(
    store: Store, line: bytes, reply: bytes, end: bytes, cut: int
) -> None:
    session = Service(store).open()
    assert session.receive(line[:cut]) == b""
    assert session.receive(line[cut:] + end + b"KV/1.0 GET none\n") == reply + b"404 NOT_FOUND\n"


@pytest.mark.parametrize("cut", [1, 20, 700, 999])
def test_a_line_over_the_limit_that_comes_in_packets_is_answered_once(store: Store, cut: int) -> None:
    session = Service(store, Limits(line_bytes=100)).open()
    line = b"KV/1.0 PUT k " + b"x" * 1000 + b"\n"
    assert calls(session, line[:cut]) == [b""]
    assert calls(session, line[cut:]) == [b"400 BAD_REQUEST\n"]
    assert calls(session, b"KV/1.0 GET k\n") == [b"404 NOT_FOUND\n"]


def test_a_line_whose_beginning_is_not_utf_8_is_refused_though_its_end_is_plain(store: Store) -> None:
    session = Service(store).open()
    assert session.receive(b"KV/1.0 PUT k \xff") == b""
    assert session.receive(b"end\nKV/1.0 GET k\n") == b"400 BAD_REQUEST\n404 NOT_FOUND\n"


def test_requests_alone_in_their_packets_are_counted_by_command(store: Store) -> None:
    session = Service(store).open()
    for line in (b"PUT k 1", b"PUT k 2", b"PUT  k", b"GET k", b"GET none", b"DEL k", b"NONE"):
        session.receive(b"KV/1.0 " + line + b"\n")
    stats = session.receive(b"KV/1.0 STATS\n")
    assert b"commands_processed: 7; get_requests: 2; put_requests: 2; del_requests: 1;" in stats


def test_a_put_alone_in_its_packet_is_a_500_where_the_store_fails() -> None:
    session = Service(FailingMemoryStore()).open()
    assert session.receive(b"KV/1.0 PUT k 1\n") == b"500 SERVER_ERROR\n"
    assert b"commands_processed: 1; get_requests: 0; put_requests: 1;" in session.receive(b"KV/1.0 STATS\n")


def test_a_slice_ends_soon_behind_commands_that_cost_much(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(step=session_module.SLICE_S / 4)
    monkeypatch.setattr(session_module, "monotonic", lambda: next(clock))
    answered = [reply.splitlines() for reply in calls(Service(store).open(), b"KV/1.0 GET a\nKV/1.0 STATS\n" * 100)]
    assert [line[:3] for lines in answered for line in lines] == [b"404", b"200"] * 100
    assert max(map(len, answered)) <= 10
