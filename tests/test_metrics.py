"""The metrics of a running server: what is counted, how it is summed, and that the official parser can read it."""

import contextlib
import errno
import http.client
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace

import gevent
import pytest
from gevent import socket as green
from gevent.event import Event
from gevent.server import StreamServer
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from serving import Served, serving, wait_until

from kvss_gevent.cli import main
from kvss_gevent.core.login import ReadOnlyStore, views
from kvss_gevent.core.service import Service
from kvss_gevent.core.user_file import Role
from kvss_gevent.observe import page_server
from kvss_gevent.observe.latency_buckets import BOUNDS_S, quantile, shown_classes
from kvss_gevent.observe.observation import Observation
from kvss_gevent.observe.observer import Observer
from kvss_gevent.observe.openmetrics import render
from kvss_gevent.observe.shared_figures import REPLIES, SharedFigures
from kvss_gevent.observe.timing import BUSY_CALLS, Timing
from kvss_gevent.protocol.wire import Status
from kvss_gevent.server.accepting.listener import check_exposure
from kvss_gevent.settings.config import Config
from kvss_gevent.settings.fail import Fail
from kvss_gevent.stores.base import StoreError
from kvss_gevent.stores.memory import MemoryStore

Samples = dict[tuple[str, str], float]


class Client:
    sock = address = None


def observer_of(figures: SharedFigures) -> Observer:
    return Observer(figures.rows[0])


def served(observer: Observer, store: object = None) -> Service:
    service = Service(store or MemoryStore(), tally=observer)
    observer.start(service, may_wait=False)
    return service


def samples(text: str) -> Samples:
    """Read a page with the official parser, which refuses whatever is not as it should be."""
    return {
        (sample.name, ",".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def page_of(server: Served) -> tuple[str, int]:
    wait_until(lambda: "metrics at" in server.logged())
    found = re.search(r"metrics at http://([\d.]+):(\d+)/metrics", server.logged())
    assert found
    return found[1], int(found[2])


def get(address: tuple[str, int], path: str, method: str = "GET") -> tuple[int, str]:
    connection = http.client.HTTPConnection(*address, timeout=20)
    connection.request(method, path)
    reply = connection.getresponse()
    return reply.status, reply.read().decode()


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
        def run(self, verb: int, key: bytes, value: bytes) -> bytes:
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
    assert timing.stopwatch.is_on is slow_log  # between two samples
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


def test_an_empty_page_is_good_openmetrics() -> None:
    found = samples(render(SharedFigures(2), 5, 7, 1.0))
    assert found["kvss_keys", ""] == 5
    assert found["kvss_worker_connections", "1"] == 0
    assert found["kvss_handling_seconds_bucket", "GET,+Inf"] == 0


def test_a_crowd_that_asks_again_and_again_has_a_page_made_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 5.0
    monkeypatch.setattr(page_server, "time", SimpleNamespace(monotonic=lambda: now_s))
    counted, slow = [0], Event()

    class Slow(MemoryStore):
        def count(self) -> int:
            counted[0] += 1
            slow.wait()
            return counted[0]

    observation = Observation(1, None, 0)
    observer = observation.observer(0)
    pages = observation.pages(observer, served(observer, Slow()), lambda: False)
    for path in ("/metrics", "/readyz"):
        counted[0] = 0
        slow.clear()
        crowd = [gevent.spawn(pages[path]) for _ in range(5)]
        gevent.idle()
        slow.set()
        first, *others = (one.get(timeout=10) for one in crowd)
        assert all(other is first for other in others)
        now_s += page_server.FRESH_S * 0.9
        assert pages[path]() is first
        assert counted == [1]
        now_s += page_server.FRESH_S * 0.2
        assert pages[path]() is not first
        assert counted == [2]


@pytest.mark.server
def test_a_page_tells_what_clients_did_and_ends_with_the_server() -> None:
    with serving("--metrics", "0", "--lab") as server, server.connect() as client:
        page = page_of(server)
        client.sendall(b"KV/1.0 PUT a 1\nKV/1.0 GET a\nKV/1.0 BURN 3\n")
        assert client.recv(100)
        wait_until(lambda: samples(get(page, "/metrics")[1])["kvss_received_bytes_total", ""] == 42)
        status, text = get(page, "/metrics")
        found = samples(text)
        assert status == 200
        assert found["kvss_requests_total", "PUT,201"] == 1
        assert found["kvss_requests_total", "GET,200"] == 1
        assert found["kvss_requests_total", "LAB,200"] == 1
        assert found["kvss_connections", ""] == 1
        assert found["kvss_keys", ""] == 1
        assert found["kvss_handling_seconds_count", "several"] >= 1
        assert found["kvss_handling_seconds_sum", "several"] >= 0.003
        assert found["kvss_sent_bytes_total", ""] == len(b"201 CREATED\n200 OK 1\n200 OK\n")
        assert get(page, "/healthz") == (200, "alive\n")
        assert get(page, "/readyz") == (200, "ready\n")
        assert get(page, "/metrics", "HEAD") == (200, "")
        assert get(page, "/metrics", "POST")[0] == 405
        assert get(page, "/none") == (404, "there is only /metrics, /healthz, /readyz\n")


@pytest.mark.server
@pytest.mark.parametrize(
    ("sent", "status"), [(b"nonsense\r\n\r\n", b"400"), (b"GET /metrics HTTP/1.1\r\nA: " + b"a" * 9000, b"431")]
)
def test_a_request_that_is_none_is_refused(sent: bytes, status: bytes) -> None:
    with serving("--metrics", "0") as server, socket.create_connection(page_of(server), 20) as sock:
        sock.sendall(sent)
        assert sock.recv(100).startswith(b"HTTP/1.1 " + status)


@pytest.mark.server
def test_a_server_that_stops_is_alive_and_not_ready() -> None:
    with serving("--metrics", "0", "--lab", "--drain-timeout", "60") as server, server.connect() as slow:
        page = page_of(server)
        slow.sendall(b"KV/1.0 PUT big " + b"x" * 900_000 + b"\n" + b"KV/1.0 GET big\n" * 20)
        wait_until(lambda: slow.recv(1))  # it will not take the rest: the server drains until then
        server.process.terminate()
        wait_until(lambda: get(page, "/readyz") == (503, "stopping\n"))
        assert get(page, "/healthz")[0] == 200
        while slow.recv(1 << 20):
            pass
        assert server.process.wait(20) == 0


@pytest.mark.server
def test_a_store_that_refuses_makes_the_server_not_ready() -> None:
    with serving("--metrics", "0", "--max-memory", "1K") as server:
        page = page_of(server)
        assert server.ask(b"KV/1.0 PUT big " + b"x" * 2000 + b"\n") == b"500 SERVER_ERROR\n"
        status, text = get(page, "/readyz")
        assert status == 503
        assert re.fullmatch(r"the store failed \d+\.\d s ago\n", text)


@pytest.mark.server
def test_any_worker_tells_what_all_have_counted(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with serving("--metrics", "0", "--workers", "2", "--store", f"disk:{tmp_path}/data", "--sync", "none") as server:
        page = page_of(server)
        for number in range(20):
            assert server.ask(b"KV/1.0 PUT key%d v\n" % number) == b"201 CREATED\n"
        pages: list[Samples] = []

        def all_are_counted() -> bool:
            pages.append(samples(get(page, "/metrics")[1]))
            return pages[-1]["kvss_requests_total", "PUT,201"] == 20

        wait_until(all_are_counted)
        found = pages[-1]  # of the other worker the next page may be one that was made earlier
        assert found["kvss_connected_total", ""] == 20
        assert found["kvss_worker_requests_total", "0"] + found["kvss_worker_requests_total", "1"] == 20
        assert found["kvss_keys", ""] == 20
        assert found["kvss_store_seconds_count", ""] == 20 or found["kvss_store_seconds_count", ""] == 0


@pytest.mark.parametrize("address", ["0.0.0.0:9100", "[::]:9100"])
def test_metrics_for_other_machines_need_open(address: str) -> None:
    with pytest.raises(Fail, match="can be reached from other machines"):
        check_exposure(Config(metrics=address))
    check_exposure(Config(metrics=address, open=True))


def test_a_wrong_address_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--metrics", "unix:/a", "--check-config"]) == 2
    assert capsys.readouterr().err == "kvss serve: --metrics is 'unix:/a'\n  Give HOST:PORT or a port.\n"


def test_without_descriptors_the_page_rests_quietly_and_comes_back(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(page_server, "REST_S", 0.01)
    failures = [OSError(errno.EMFILE, "Too many open files")] * 3
    usual = StreamServer.do_read

    def do_read(server: StreamServer) -> object:
        if failures:
            raise failures.pop()
        return usual(server)

    monkeypatch.setattr(StreamServer, "do_read", do_read)
    with one_page() as address, green.create_connection(address, 20) as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert client.recv(1000).endswith(b"here")
    assert not failures
    assert capfd.readouterr().err == ""


def test_silent_clients_keep_nobody_from_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_server, "DEADLINE_S", 60.0)
    with one_page() as address, contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(green.create_connection(address, 20)) for _ in range(3 * page_server.MOST_CLIENTS)]
        with green.create_connection(address, 20) as client:
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert client.recv(1000).endswith(b"here")
        assert crowd[0].recv(1) == b"", "the oldest makes room"
        crowd[-1].sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert crowd[-1].recv(1000).endswith(b"here")


@pytest.mark.parametrize("request_", [b"POST / HTTP/1.1\r\n\r\n", b"GET /" + b"a" * 9000, b"GET / HTTP/1.1\r\n\r\n"])
def test_who_sends_more_than_a_request_gets_the_answer(monkeypatch: pytest.MonkeyPatch, request_: bytes) -> None:
    monkeypatch.setattr(page_server, "DEADLINE_S", 60.0)
    with one_page() as address, green.create_connection(address, 20) as client:
        client.sendall(request_ + b"x" * 300_000)
        client.shutdown(socket.SHUT_WR)
        answer = b""
        while part := client.recv(1000):
            answer += part
        assert answer.startswith(b"HTTP/1.1 ")


@contextlib.contextmanager
def one_page() -> Iterator[tuple[str, int]]:
    """Serve one page in this thread; give the address."""
    listener = green.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(100)
    server = page_server.PageServer(listener, {"/": lambda: page_server.HttpAnswer("here")})
    server.start()
    yield server.address
    server.stop()
