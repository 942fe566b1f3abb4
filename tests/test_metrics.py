"""The metrics of a running server: what is counted, how it is summed, and that the official parser can read it."""

from dataclasses import dataclass

import pytest
from metrics_pages import samples, served

from kvss_gevent.core.login import ReadOnlyStore, views
from kvss_gevent.core.user_file import Role
from kvss_gevent.observe.latency_buckets import BOUNDS_S, quantile, shown_classes
from kvss_gevent.observe.observer import Observer
from kvss_gevent.observe.openmetrics import render
from kvss_gevent.observe.shared_figures import REPLIES, SharedFigures
from kvss_gevent.observe.timing import BUSY_CALLS, Timing
from kvss_gevent.protocol.wire import Status
from kvss_gevent.server.transport import LARGEST_RECV_BYTES
from kvss_gevent.stores.base import StoreError
from kvss_gevent.stores.memory import MemoryStore


class Client:
    sock = address = None


def observer_of(figures: SharedFigures) -> Observer:
    return Observer(figures.rows[0])


def test_every_request_is_counted_once_by_command_and_code() -> None:
    figures = SharedFigures(1)
    observer = observer_of(figures)
    service = served(observer)
    talk = service.open()
    for packet in (
        b"KV/1.0 PUT a 1\nKV/1.0 PUT a 2\nKV/1.0 GET a\nKV/1.0 GET a\nKV/1.0 GET none\n",
        b"KV/1.0 GET a\n",
        b"KV/1.0 PUT a 3\nKV/1.0 PUT a 4\n",
        b"KV/1.0 PUT b 1\nKV/1.0 PUT a 5\nKV/1.0 PUT c 1\n",
        b"KV/1.0 DEL a\n",
        b"KV/1.0 DEL a\nKV/1.0 STATS\nKV/1.0 FOO\nnonsense\n",
        b"KV/1.0 QUIT\n",
    ):
        talk.receive(packet)
    service.open().receive(b"\x16\x03\x01")
    observer.note()
    counted = {f"{name} {code:d}": figures.replies()[place] for (name, code), place in REPLIES.items()}
    assert {name: number for name, number in counted.items() if number} == {
        "PUT 201": 3,
        "PUT 200": 4,
        "GET 200": 3,
        "GET 404": 1,
        "DEL 204": 1,
        "DEL 404": 1,
        "STATS 200": 1,
        "none 400": 1,
        "none 426": 2,
        "QUIT 200": 1,
    }
    assert sum(figures.replies()) == service.stats.commands


def test_what_a_role_may_not_do_is_counted_as_403() -> None:
    figures = SharedFigures(1)
    observer = observer_of(figures)
    reader = views(served(observer))[Role.READ]
    assert not isinstance(reader.store, ReadOnlyStore)
    talk = reader.open()
    for _ in range(2):
        assert talk.receive(b"KV/1.0 PUT a 1\nKV/1.0 PUT b 1\n") == b"403 FORBIDDEN\n" * 2
    talk.receive(b"KV/1.0 GET a\n")
    observer.note()
    assert figures.replies()[REPLIES["PUT", Status.FORBIDDEN]] == 4
    assert figures.replies()[REPLIES["GET", Status.NOT_FOUND]] == 1


def test_puts_and_gets_of_a_packet_are_counted_by_what_they_did() -> None:
    figures = SharedFigures(1)
    observer = observer_of(figures)
    talk = served(observer).open()
    for _ in range(2):
        talk.receive(b"KV/1.0 PUT a 1\nKV/1.0 GET a\nKV/1.0 PUT a 2\nKV/1.0 GET a\nKV/1.0 PUT a 11\nKV/1.0 GET none\n")
    observer.note()
    created, replaced, found, missed = (
        figures.replies()[REPLIES[name, status]]
        for name, status in (
            ("PUT", Status.CREATED),
            ("PUT", Status.OK),
            ("GET", Status.OK),
            ("GET", Status.NOT_FOUND),
        )
    )
    assert (created, replaced, found, missed) == (1, 5, 4, 2)


def test_a_store_that_fails_is_counted_as_500_and_noticed() -> None:
    class Broken(MemoryStore):
        def _run(self, verb: int, key: bytes, value: bytes) -> bytes:
            raise StoreError("broken")

        def _put(self, request: bytes, reply: bytes) -> bytes:
            raise StoreError("broken")

    figures = SharedFigures(1)
    observer = observer_of(figures)
    talk = served(observer, Broken()).open()
    for puts in (1, 2, 3):
        assert talk.receive(b"KV/1.0 PUT a 1\n" * puts) == b"500 SERVER_ERROR\n" * puts
    observer.note()
    assert figures.replies()[REPLIES["PUT", Status.SERVER_ERROR]] == 1 + 2 + 3
    assert observer.failed_s > 0


def test_keys_that_expire_are_counted_and_a_store_that_is_counted_forgets_them() -> None:
    now_ns = 10**9
    figures = SharedFigures(1)
    observer = observer_of(figures)
    store = MemoryStore(clock=lambda: now_ns)
    served(observer, store).open().receive(b"KV/1.0 PUTEX 5 a 1\nKV/1.0 TTL a\nKV/1.0 PUTEX 50 b 1\n")
    now_ns += 10 * 10**9
    store.reclaim(100)
    observer.note()
    assert figures.total("expired") == 1
    assert figures.replies()[REPLIES["PUTEX", Status.CREATED]] == 2
    assert figures.replies()[REPLIES["TTL", Status.OK]] == 1


def test_a_worker_goes_on_counting_where_the_one_before_it_has_ended() -> None:
    figures = SharedFigures(2)
    for _ in range(2):
        observer = observer_of(figures)
        talk = served(observer).open()
        talk.receive(b"KV/1.0 PUT a 1\n")
        talk.receive(b"KV/1.0 GET a\n")
        observer.note()
        observer.note()
    assert figures.replies()[REPLIES["PUT", Status.CREATED]] == 2
    assert figures.replies()[REPLIES["GET", Status.OK]] == 2


def test_times_are_classes_that_a_quantile_is_read_from() -> None:
    counts = [0] * 64
    for took_ns in (100, 900, 3_000, 1 << 40):
        counts[took_ns.bit_length()] += 1
    classes = shown_classes(counts)
    assert classes[0] == 2
    assert classes[-1] == 1
    assert sum(classes) == 4
    assert quantile(classes, BOUNDS_S, 0.5) == BOUNDS_S[0]
    assert 2.048e-6 < (quantile(classes, BOUNDS_S, 0.75) or 0) <= 4.096e-6
    assert quantile(classes, BOUNDS_S, 1) == BOUNDS_S[-1]
    assert quantile([0] * len(classes), BOUNDS_S, 0.5) is None


def test_times_are_told_by_the_command_that_a_packet_brought() -> None:
    figures = SharedFigures(1)
    observer = observer_of(figures)
    talk = served(observer).open()
    receive = observer.timed(Client(), talk.receive, False)
    for packet in (b"PUT a 1", b"GET a", b"GET a", b"DEL a", b"STATS", b"GET a\nKV/1.0 GET b"):
        receive(b"KV/1.0 %b\n" % packet)
    receive(b"KV/1.0 GE")  # a line that is not whole
    observer.timed(Client(), lambda _: talk.proceed(), False)(b"")
    observer.note()
    found = samples(render(figures, 0, 0, 1.0))
    counted = {name: found["kvss_handling_seconds_count", name] for name in ("GET", "PUT", "DEL", "other", "several")}
    assert counted == {"GET": 2, "PUT": 1, "DEL": 1, "other": 2, "several": 2}
    assert found["kvss_handling_seconds_bucket", "GET,+Inf"] == 2
    assert 0 < found["kvss_handling_seconds_sum", "GET"] < 1


@dataclass
class Loop:
    iteration: int = 1


@pytest.mark.parametrize("slow_log", [False, True])
def test_of_a_busy_server_some_calls_are_counted_for_all_and_slow_ones_are_told_all_the_same(slow_log: bool) -> None:
    told: list[int] = []
    answered = 0

    def answer(_: bytes) -> bytes:
        nonlocal answered
        answered += 1
        return b""

    loop = Loop()
    timing = Timing(lambda client, data, held_ns, ended_ns: told.append(held_ns), loop, lambda: answered)
    if slow_log:
        timing.set_limit(10**12)
    receive, times = timing.timed(Client(), answer), timing.times

    def counted(calls: int, calls_a_turn: int = 10, turns_a_tick: int = 20) -> float:
        before = sum(map(sum, times.classes))
        for number in range(calls):
            loop.iteration += number % calls_a_turn == 0
            if number % (calls_a_turn * turns_a_tick) == 0:
                timing.tick()
            receive(b"KV/1.0 GET a\n")
        return sum(map(sum, times.classes)) - before

    assert counted(BUSY_CALLS) == BUSY_CALLS
    assert 20_000 < counted(25_600) <= 25_600
    assert (timing.stopwatch.short_bytes < LARGEST_RECV_BYTES) is slow_log  # between two samples
    assert counted(25_600, calls_a_turn=5_000, turns_a_tick=1) > 20_000  # a turn may be long
    timing.begin_second()
    assert not times.all_count  # it was busy until now
    timing.begin_second()
    assert counted(200) == 200
    assert not told
    if slow_log:
        counted(25_600)
        timing.set_limit(0)
        assert timing.stopwatch.limit_s == 0
        receive(b"KV/1.0 GET a\n")
        assert len(told) == 1
        assert not timing.stopwatch.times_all
        timing.set_limit(-1)  # those who may have waited are counted: look-ups, too
        assert timing.stopwatch.times_all


def test_a_sample_counts_for_what_was_answered_since_the_last_one_and_not_for_more() -> None:
    answered = 0
    timing = Timing(lambda *_: None, Loop(), lambda: answered)
    times = timing.times
    times.all_count = False
    answered = 1000  # in packets that no sample has seen
    timing.tick()
    for size in (1, 3):
        answered += size
        timing.stopwatch.tell(Client(), b"KV/1.0 GET a\n" * size, 0, 3e-6)
    times.end_sample()
    assert [sum(classes) for classes in times.classes] == [251, 0, 0, 0, 251]
    assert times.total_ns[0] == 251 * 3000
