"""`kvss top`: what it makes of two readings, what it shows in how many columns, and how it ends."""

import itertools
import json
import math
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pexpect
import pytest
from fake_server import Peer, fake_server
from serving import Served, serving, wait_until

from kvss_gevent.cli import main
from kvss_gevent.observe.openmetrics import render
from kvss_gevent.observe.shared_figures import SharedFigures
from kvss_gevent.protocol.stats_reply import Stats
from kvss_gevent.settings.addresses import Endpoint
from kvss_gevent.top.metrics_client import MAX_PAGE_BYTES, TIMEOUT_S, NoPage, page_address, parse_page, read_page
from kvss_gevent.top.rates import LEAST_S, Figures, RateWindow, WorkerFigures, compare
from kvss_gevent.top.readings import ServerReading
from kvss_gevent.top.screen import number, plain, screen
from kvss_gevent.top.slow_reply import BusyClient, SlowEntry, SlowReply, parse_slow_reply

ENTRY = SlowEntry(0, 50.5, "loop", "GET \x1b[2J", "127.0.0.1:4", 12, 40.0)
CLIENT = BusyClient("127.0.0.1:5", 1234.5, 1e6, 2)
FULL = Figures(
    uptime_s=3725,
    clients=3,
    keys=12345,
    requests_per_s=1234.0,
    by_command={"GET": 1000.0, "PUT": 234.0, "DEL": 0.0},
    errors={"500": 2.0},
    p50_us=12.0,
    p99_us=3400.0,
    lag_p99_ms=1.5,
    in_per_s=2e6,
    out_per_s=10.0,
    slow=7,
    workers=[WorkerFigures("0", 1234.0, 3.0, 0.5, 3e7, 0.1), WorkerFigures("1", 0.0, 0.0, 0.0, 3e7, 9.0)],
    slow_log=SlowReply(20, [ENTRY] * 30, [CLIENT] * 9),
)


def reading(at_s: float, stats: Stats | None = None, page: str = "") -> ServerReading:
    return ServerReading(at_s, stats, "200 OK odd\r" if stats is None else "", parse_page(page) if page else {})


def page(handled_us: int, requests: int) -> str:
    figures = SharedFigures(1)
    figures.rows[0].replies[0] = requests
    figures.rows[0].replies[8] = requests
    figures.rows[0].histogram("GET")[(handled_us * 1000).bit_length() - 10] = requests
    figures.rows[0]["cpu_us"] = requests * 1000
    return render(figures, 1, 1, 1.0)


def test_rates_and_times_are_those_of_the_interval() -> None:
    figures = compare(reading(10, page=page(5000, 100)), reading(12, page=page(5000, 300)))
    assert figures.requests_per_s == 200
    assert figures.by_command == {"GET": 200}
    assert figures.errors == {"500": 100}
    assert 4194 < (figures.p50_us or 0) < 8389
    assert figures.lag_p99_ms is None
    assert figures.workers[0].cores == pytest.approx(0.1)


def test_a_server_without_metrics_shows_what_stats_tells() -> None:
    figures = compare(reading(10, Stats(5, 2, 100, 3, 70, 20, 10)), reading(11, Stats(6, 2, 150, 3, 110, 20, 10)))
    assert (figures.requests_per_s, figures.clients, figures.keys) == (50, 3, 2)
    assert figures.by_command == {"GET": 40, "PUT": 0, "DEL": 0}
    lab = compare(reading(10, Stats(5, 2, 100)), reading(12, Stats(6, 2, 150)))
    assert (lab.requests_per_s, lab.clients, lab.by_command) == (25, None, {})
    assert plain(lab, "12:00:00") == "12:00:00 requests/s=25.0 keys=2"


def test_a_server_that_began_anew_has_no_negative_rates() -> None:
    assert compare(reading(10, Stats(5, 2, 100)), reading(12, Stats(6, 2, 0))).requests_per_s == 0
    assert compare(reading(10, page=page(5, 100)), reading(12, page=page(5, 1))).requests_per_s == 0


def test_rates_are_true_whenever_workers_report() -> None:
    """Two workers answer 100 and 300 requests a second. The page is the first one's; the other reports each second."""
    shared = SharedFigures(2)

    def at(tenths: int) -> ServerReading:
        for row, tenth, per_s in ((shared.rows[0], tenths, 100), (shared.rows[1], (tenths - 3) // 10 * 10 + 3, 300)):
            row["seen_ms"] = tenth * 100
            row.replies[0] = per_s * tenth // 10
            row["cpu_us"] = tenth * 50_000
            # A worker counts its bytes each second, also one that reports more often.
            row["bytes_in"] = (tenth - 5) // 10 * per_s * 30
            row["bytes_out"] = 2 * row["bytes_in"]
            row["looked_ms"] = (tenth - 5) // 10 * 1000
        return reading(tenths / 10, page=render(shared, 1, 1, tenths / 10))

    window = RateWindow(at(40))
    found = [window.take(at(tenths)) for tenths in range(41, 80)][int(LEAST_S * 10) :]
    assert {round(figures.requests_per_s or 0) for figures in found} == {400}
    assert {round(figures.by_command["GET"]) for figures in found} == {400}
    assert {tuple(round(worker.requests_per_s) for worker in figures.workers) for figures in found} == {(100, 300)}
    assert {(round(figures.in_per_s or 0), round(figures.out_per_s or 0)) for figures in found} == {(12_000, 24_000)}
    assert {tuple(round(worker.cores, 3) for worker in figures.workers) for figures in found} == {(0.5, 0.5)}


def test_without_a_page_rates_are_those_of_the_last_interval() -> None:
    window = RateWindow(reading(1, Stats(1, 0, 0)))
    counts = (10, 30, 30, 80)
    found = [window.take(reading(2 + at, Stats(1, 0, count))) for at, count in enumerate(counts)]
    assert [figures.requests_per_s for figures in found] == [10, 20, 0, 50]


def test_a_page_that_could_not_be_read_before_gives_no_rates_yet() -> None:
    figures = compare(reading(10), reading(12, page=page(5, 100)))
    assert (figures.requests_per_s, figures.by_command["GET"]) == (0, 0)


def test_a_line_leaves_out_commands_and_codes_of_earlier_intervals() -> None:
    line = plain(compare(reading(10, page=page(5, 100)), reading(12, page=page(5, 100))), "12:00:00")
    assert line.startswith("12:00:00 requests/s=0.0 clients=0 ")


def test_an_odd_reply_to_stats_is_shown_as_it_is() -> None:
    figures = compare(reading(1), reading(2))
    assert plain(figures, "12:00:00") == "12:00:00 stats='200 OK odd\\r'"
    assert "200 OK odd\\r" in screen(figures, "a:1", 80, 24, "12:00:00")


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
@pytest.mark.parametrize("rows", [5, 24, 60])
def test_a_screen_fits_any_terminal_and_shows_no_control_character(columns: int, rows: int) -> None:
    lines = screen(FULL, "127.0.0.1:5050", columns, rows, "12:00:00")
    assert len(lines) <= rows
    assert all(len(line) <= columns for line in lines)
    assert all(line.isprintable() for line in lines)
    assert lines[-1] == "q quits"
    text = "\n".join(lines)
    if rows > 5:
        for shown in ("up 1:02:05", "keys 12,345", "GET 1k/s", "500 2/s", "p99 3.4 ms", "lag p99 1.5 ms", "in 2MB/s"):
            assert shown in text
        assert "DEL" not in text
        assert re.search(r"^1 silent 9 s", text, re.MULTILINE)


def test_a_wide_screen_names_the_slow_in_one_line() -> None:
    shown = "50.5 ms, 40 ms without a core  loop  GET \\x1b[2J  127.0.0.1:4  12 may have waited"
    lines = screen(FULL, "127.0.0.1:5050", 120, 60, "12:00:00")
    assert any(re.fullmatch(r"\d\d:\d\d:\d\d  " + re.escape(shown), line) for line in lines)


@pytest.mark.parametrize(("value", "shown"), [(0, "0"), (12.34, "12.3"), (999.9, "1k"), (1234, "1.23k"), (5e9, "5G")])
def test_numbers_are_short(value: float, shown: str) -> None:
    assert number(value) == shown


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


def test_without_a_server_or_a_terminal_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", "1", "--plain"]) == 3
    assert capsys.readouterr().err.startswith("kvss top: cannot connect to 127.0.0.1:1: ")
    assert main(["top", "1"]) == 2
    assert (
        capsys.readouterr().err
        == "kvss top: there is no terminal\n  Give --plain to print one line for each interval.\n"
    )
    assert main(["top", "--metrics", "a b"]) == 2


@contextmanager
def live() -> Iterator[tuple[Served, list[str]]]:
    """Give a server whose slow log has an entry, and the words of a command that shows it."""
    with serving("--metrics", "0", "--slow-ms", "20", "--lab") as server, server.connect() as client:
        wait_until(lambda: "metrics at" in server.logged())
        found = re.search(r"http://\S+", server.logged())
        assert found
        client.sendall(b"KV/1.0 SLEEP 30\n")
        assert client.recv(100) == b"200 OK\n"
        yield server, ["-m", "kvss_gevent", "top", str(server.port), "--metrics", found[0], "--interval", "0.2"]


def started(words: list[str]) -> "pexpect.spawn[str]":
    top = pexpect.spawn(sys.executable, words, dimensions=(40, 100), encoding="utf-8", timeout=15)
    top.expect("SLEEP 30")
    return top


def exit_code(top: "pexpect.spawn[str]") -> int | None:
    top.expect(re.escape("\x1b[?25h\x1b[?1049l"))  # the terminal is as it was
    top.expect(pexpect.EOF)
    top.close()
    return top.exitstatus


@pytest.mark.server
def test_it_shows_a_live_server_until_q_is_pressed() -> None:
    with live() as (_, words):
        top = started(words)
        top.expect("worker")
        top.send("q")
        assert exit_code(top) == 0


@pytest.mark.server
@pytest.mark.full
def test_it_leaves_the_terminal_as_it_was_however_it_ends() -> None:
    with live() as (server, words):
        top = started(words)
        top.sendintr()
        assert exit_code(top) == 130
        top = started(words)
        top.kill(signal.SIGTERM)
        assert exit_code(top) == 128 + signal.SIGTERM
        top = started(words)
        server.process.terminate()
        assert exit_code(top) == 3
