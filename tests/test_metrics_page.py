"""The page of metrics: its form, who gets it, and when it says that the server is alive and ready."""

import contextlib
import errno
import http.client
import re
import socket
from collections.abc import Iterator
from types import SimpleNamespace

import gevent
import pytest
from gevent import socket as green
from gevent.event import Event
from gevent.server import StreamServer
from metrics_pages import Samples, samples, served
from serving import Served, serving, wait_until

from kvss_gevent.cli import main
from kvss_gevent.observe import page_server
from kvss_gevent.observe.openmetrics import render
from kvss_gevent.observe.server_observer import ServerObserver
from kvss_gevent.observe.shared_figures import SharedFigures
from kvss_gevent.server.accepting.listener import check_exposure
from kvss_gevent.settings.config import Config
from kvss_gevent.settings.fail import Fail
from kvss_gevent.stores.memory import MemoryStore


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

    server_observer = ServerObserver(1, None, 0)
    observer = server_observer.observer(0)
    pages = server_observer.pages(observer, served(observer, Slow()), lambda: False)
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
def test_the_times_of_a_busy_server_stand_for_nearly_all_of_its_requests() -> None:
    with serving("--metrics", "0") as server, server.connect() as client:
        page = page_of(server)
        for _ in range(20_000):
            client.sendall(b"KV/1.0 GET a\n")
            assert client.recv(100)
        wait_until(lambda: samples(get(page, "/metrics")[1])["kvss_handling_seconds_count", "GET"] > 8000)


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
