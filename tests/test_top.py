"""`kvss top`: what it makes of two readings, what it shows in how many columns, and how it ends."""

import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pexpect
import pytest
from serving import Served, serving, wait_until
from top_pages import page

from kvss_gevent.cli import main
from kvss_gevent.observe.openmetrics import render
from kvss_gevent.observe.shared_figures import SharedFigures
from kvss_gevent.protocol.stats_reply import Stats
from kvss_gevent.top.metrics_client import parse_page
from kvss_gevent.top.rates import LEAST_S, Figures, RateWindow, WorkerFigures, compare
from kvss_gevent.top.readings import ServerReading
from kvss_gevent.top.screen import number, plain, screen
from kvss_gevent.top.slow_reply import BusyClient, SlowEntry, SlowReply

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


def test_what_nobody_is_known_to_have_held_is_shown_without_a_client() -> None:
    entry = SlowEntry(0, 45.2, "loop", "a turn of 50 requests", "", 2)
    lines = screen(Figures(slow_log=SlowReply(20, [entry], [])), "127.0.0.1:5050", 120, 60, "12:00:00")
    assert any(line.endswith("  45.2 ms  loop  a turn of 50 requests  2 may have waited") for line in lines)


@pytest.mark.parametrize(("value", "shown"), [(0, "0"), (12.34, "12.3"), (999.9, "1k"), (1234, "1.23k"), (5e9, "5G")])
def test_numbers_are_short(value: float, shown: str) -> None:
    assert number(value) == shown


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
