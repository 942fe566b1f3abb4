"""What `kvss top` reads of a server: its slow log and its page, also where they are odd, endless or foreign."""

import itertools
import json
import math
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from fake_server import Peer, fake_server
from top_pages import page

from kvss_gevent.cli import main
from kvss_gevent.settings.addresses import Endpoint
from kvss_gevent.top.metrics_client import MAX_PAGE_BYTES, TIMEOUT_S, NoPage, page_address, parse_page, read_page
from kvss_gevent.top.rates import Figures, compare
from kvss_gevent.top.readings import ServerReading
from kvss_gevent.top.screen import plain, screen
from kvss_gevent.top.slow_reply import BusyClient, SlowEntry, SlowReply, parse_slow_reply


@pytest.mark.parametrize("text", ["9100", "127.0.0.1:9100", "http://127.0.0.1:9100", "http://127.0.0.1:9100/metrics"])
def test_the_address_of_a_page_has_four_forms(text: str) -> None:
    assert str(page_address(text)) == "127.0.0.1:9100"


ONE_ENTRY = {"at": 1.5, "ms": 2, "held": "loop", "command": "GET a", "client": "unix", "waited": 3}
ONE_CLIENT = {"client": "unix", "packets_per_s": 1, "bytes_in_per_s": 2, "bytes_out_per_s": 3}


def slow_reply(entry: dict[str, object], client: dict[str, object]) -> bytes:
    return b"200 OK " + json.dumps({"slow_ms": 20, "entries": [entry], "clients": [client]}).encode()


def test_a_slow_log_is_read_as_the_server_writes_it() -> None:
    found = parse_slow_reply(slow_reply(ONE_ENTRY, ONE_CLIENT))
    assert found == SlowReply(20, [SlowEntry(1.5, 2, "loop", "GET a", "unix", 3)], [BusyClient("unix", 1, 2, 3)])


ODD = [None, [], {}, "x", -1, 1e300, math.nan, math.inf, 10**400, ["x"]]


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: str(odd)[:9])
def test_a_slow_log_with_odd_values_is_none_or_can_be_shown(odd: object) -> None:
    replies = [slow_reply(ONE_ENTRY | {name: odd}, ONE_CLIENT) for name in (*ONE_ENTRY, "without_core_ms")]
    replies += [slow_reply(ONE_ENTRY, ONE_CLIENT | {name: odd}) for name in ONE_CLIENT]
    whole = {"slow_ms": 20, "entries": [ONE_ENTRY], "clients": [ONE_CLIENT]}
    replies += [json.dumps(whole | {name: odd}).encode() for name in whole]
    replies += [json.dumps(odd).encode(), json.dumps(whole | {"entries": [odd], "clients": [odd]}).encode()]
    shown = 0
    for reply in replies:
        try:
            found = parse_slow_reply(reply)
        except ValueError:
            continue
        shown += 1
        lines = screen(Figures(slow_log=found), "a:1", 80, 24, "12:00:00")
        assert all(line.isprintable() for line in lines)
    # Only an empty list is right in two places, and a text in four.
    assert shown == {"[]": 2, "x": 4}.get(str(odd), 0)


@pytest.mark.parametrize(
    "reply",
    [b"", b"400 BAD_REQUEST", b"200 OK \xff", b"200 OK " + b"[" * 200_000, b"200 OK 7"],
    ids=["nothing", "a code", "no text", "deep", "a number"],
)
def test_what_is_no_slow_log_is_refused(reply: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_slow_reply(reply)


def test_a_page_with_control_characters_shows_none() -> None:
    odd = parse_page('kvss_uptime_seconds 1\nkvss_requests_total{command="\x1b[2J",code="\r500"} 9\n')
    figures = compare(ServerReading(10, None, "", parse_page(page(5, 0))), ServerReading(12, None, "", odd))
    assert all(line.isprintable() for line in screen(figures, "a:1", 80, 24, "12:00:00"))
    assert plain(figures, "12:00:00").isprintable()


NO_PAGES = [
    "",
    "other_metric 1\n# EOF\n",
    "kvss_uptime_seconds x\n",
    "kvss_uptime_seconds NaN\n",
    "kvss_uptime_seconds 1\nkvss_slow_total +Inf\n",
    "kvss_uptime_seconds 1\nkvss_requests_total 1\n",
    'kvss_uptime_seconds 1\nkvss_requests_total{command="GET"} 1\n',
    "kvss_uptime_seconds 1\nkvss_worker_connections 1\n",
]


@pytest.mark.parametrize("text", NO_PAGES)
def test_a_page_that_is_another_is_told(text: str) -> None:
    with pytest.raises(NoPage):
        parse_page(text)


def send_for_ever(peer: Peer) -> None:
    while True:
        peer.send(b"x" * 65536)


def test_a_page_without_an_end_is_given_up_in_time_and_bytes() -> None:
    with fake_server(send_for_ever) as server:
        place = Endpoint("127.0.0.1", server.port)
        looks = itertools.count()
        with pytest.raises(NoPage, match=r"^timed out$"):
            read_page(place, lambda: float(next(looks)))
        assert next(looks) <= TIMEOUT_S + 1
        with pytest.raises(NoPage, match=f"^it is longer than {MAX_PAGE_BYTES} bytes$"):
            read_page(place, lambda: 0.0)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "it is not HTTP"),
        (b"200 OK bye\n", "it is not HTTP"),
        (b"HTTP/1.0\r\n\r\n", "it is not HTTP"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "it answers 404"),
        (b"HTTP/1.1 \x1b[2J\r\n\r\n", r"it answers \\x1b\[2J"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "it is not a page of kvss serve --metrics"),
    ],
)
def test_an_answer_that_is_no_page_is_told(answer: bytes, why: str) -> None:
    def handle(peer: Peer) -> None:
        peer.line()  # an end with unread bytes would be a reset
        peer.send(answer)

    with fake_server(handle) as server, pytest.raises(NoPage, match=f"^{why}$"):
        read_page(Endpoint("127.0.0.1", server.port))


def test_a_page_of_a_host_that_cannot_be_is_told() -> None:
    with pytest.raises(NoPage):
        read_page(Endpoint("a" * 64 + ".example", 9100))


@contextmanager
def foreign(stats: bytes) -> Iterator[int]:
    """Serve one client that asks for STATS; every other request is 400."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            sock, _ = listener.accept()
            with sock, sock.makefile("rb") as lines:
                for line in lines:
                    asked.append(line)
                    sock.sendall(stats if line == b"KV/1.0 STATS\n" else b"400 BAD_REQUEST\n")

        asked: list[bytes] = []
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(5)
        assert asked.count(b"KV/1.0 SLOWLOG 20\n") == 1


def test_a_foreign_server_is_asked_for_its_slow_log_once(capsys: pytest.CaptureFixture[str]) -> None:
    with foreign(b"200 OK keys=7 uptime=3s served=5\n") as port:
        assert main(["top", str(port), "--plain", "--count", "2", "--interval", "0.1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [re.sub(r"^\S+ ", "", line) for line in lines] == ["requests/s=0.0 keys=7"] * 2


def test_a_foreign_server_is_read_and_shown_within_bounds(capsys: pytest.CaptureFixture[str]) -> None:
    with foreign(b"200 OK " + b"\x1b" * 100_000 + b"\n") as port:
        assert main(["top", str(port), "--plain", "--count", "1", "--interval", "0.1"]) == 0
    assert 300 < len(capsys.readouterr().out) < 3000
    with fake_server(send_for_ever) as server:
        assert main(["top", str(server.port), "--plain", "--count", "1", "--interval", "0.1"]) == 3
    assert "kvss top: " in capsys.readouterr().err


def refuse(peer: Peer) -> None:
    while peer.line():
        peer.send(b"401 UNAUTHORIZED\n")


def test_a_login_that_is_refused_has_its_own_remedy_and_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KVSS_PASSWORD", "wrong")
    with fake_server(refuse) as server:
        assert main(["top", str(server.port), "--plain", "--user", "ann"]) == 4
        assert server.seen == [b"KV/1.0 AUTH ann wrong"]
    assert "Check the name and the password" in capsys.readouterr().err
