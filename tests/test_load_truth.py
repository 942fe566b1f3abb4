"""The table of known truths: its short form, and that a report which lies about a server is found out."""

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from kvss_gevent.cli import main
from kvss_gevent.loadtest.engine.clock import clock
from kvss_gevent.loadtest.engine.histogram import Histogram
from kvss_gevent.loadtest.report.figures import figures
from kvss_gevent.loadtest.search import EXIT_UNCLEAR
from kvss_gevent.loadtest.truth import harness, knee, table
from kvss_gevent.loadtest.truth.behaviours import Answer, ReceivedRequest, State, right, stale
from kvss_gevent.loadtest.truth.cells import QUICK, Cell, Load, all_cells
from kvss_gevent.loadtest.truth.harness import CellOutcome, Row, compare
from kvss_gevent.loadtest.truth.server import StampedSocket
from kvss_gevent.loadtest.truth.table import markdown, write
from kvss_gevent.settings.fail import Fail

CONSTANT = Load("constant", 1, 1)
CELL = Cell("fixed delay of 2 ms", CONSTANT)


@pytest.mark.server
@pytest.mark.timing
@pytest.mark.parametrize(
    ("server", "load"),
    [
        pytest.param(name, load, marks=[] if name == "hangs after 1 s" else [pytest.mark.full], id=name)
        for name, load in QUICK
    ],
)
def test_the_report_agrees_with_the_servers_log(server: str, load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "ATTEMPTS", 2)
    outcome = harness.repeat(harness.attempt(Cell(server, load)))
    assert outcome.mark in ("ok", "ok (2)", "disturbed"), outcome.complaints


def true_log() -> list[Row]:
    """Return what a server logs that takes 2 ms for each of 300 requests a second, from 4 users in turn."""
    answered = [10.002 + number / 300 for number in range(600)]
    return [Row(number % 4, at - 0.002, at, at, "", "GET") for number, at in enumerate(answered)]


def true_results() -> dict[str, Any]:
    """Return what a report says that is right about it."""
    times = Histogram()
    times.record(2000, 600)
    return {
        "window": {"clock_s": {"local": [10.0, 12.0]}, "measured_s": 2.0},
        "requests": {"unaccounted": 0, "offered_per_s": 300.0, "due": 600, "answered_per_s": 300.0, "failed": 0},
        "failures": {},
        "generator": {"wait_shares": {"vm": 0.0}},
        "response": figures(times),
        "service": figures(times),
        "commands": {"GET": {"hit": {"response": figures(times)}}},
        "verdict": {"trusted": True, "findings": []},
    }


def test_a_true_report_agrees() -> None:
    assert list(compare(CELL, 0, true_results(), true_log())) == []


def test_what_the_generator_waited_for_a_core_is_not_held_against_the_report() -> None:
    results = true_results()
    results["service"]["p99_us"] = results["service"]["p99_us"] + 2000
    assert [one[:14] for one in compare(CELL, 0, results, true_log())] == ["service p99_us"]
    results["generator"]["wait_shares"]["vm"] = 0.006  # 12 ms in 600 requests: at most one in a hundred waited 2 ms
    assert list(compare(CELL, 0, results, true_log())) == []
    results["service"]["p50_us"] = results["service"]["p50_us"] + 2000
    assert [one[:14] for one in compare(CELL, 0, results, true_log())] == ["service p50_us"]


def test_a_server_that_loses_its_core_while_it_sends_may_have_been_heard_before_or_after() -> None:
    late = [row._replace(replied=row.received + 0.005) for row in true_log()]
    results = true_results()
    assert list(compare(CELL, 0, results, late)) == []
    times = Histogram()
    times.record(5000, 600)
    results["service"] = results["response"] = figures(times)
    assert list(compare(CELL, 0, results, late)) == []
    assert len(list(compare(CELL, 0, results, true_log()))) == 6


LIES = [
    (("requests", "answered_per_s", 280.0), "560 answered in the window, the server answered 600"),
    (("requests", "due", 560), "560 requests were due, expected 600"),
    (("requests", "offered_per_s", 290.0), "offered 290.0/s, asked for 300/s"),
    (("requests", "unaccounted", 1), "1 requests are in no column"),
    (("requests", "failed", 1), "1 failed, the server's log has 0 to 0"),
    (("failures", "torn value", 1), "failures of other names: torn value"),
    (("service", "p99_us", 1500), "service p99_us is 1500, the server's log says 2"),
    (("service", "p50_us", 3000), "service p50_us is 3000, the server's log says 2"),
    (("response", "p90_us", 9000), "response p90_us is 9000, the server's log says 2"),
]


@pytest.mark.parametrize(("lie", "complaint"), LIES, ids=[complaint[:30] for _, complaint in LIES])
def test_a_report_that_lies_is_found_out(lie: tuple[str, str, Any], complaint: str) -> None:
    results = deepcopy(true_results())
    part, name, value = lie
    results[part][name] = value
    found = list(compare(CELL, 0, results, true_log()))
    assert len(found) == 1
    assert found[0].startswith(complaint)


def test_an_exit_code_and_trust_that_are_not_due_are_found_out() -> None:
    assert "exit code 1, expected 0" in list(compare(CELL, 1, true_results(), true_log()))
    faulty = [row._replace(fault="" if number % 40 else "torn value") for number, row in enumerate(true_log())]
    found = list(compare(Cell("torn values", CONSTANT), 0, true_results(), faulty))
    assert "exit code 0, expected 1" in found
    assert "the verdict trusts the figures" in found
    assert any(one.startswith("0 failed, the server's log has 1") for one in found)


def test_a_server_that_stands_still_shows_in_what_is_expected_of_response_times() -> None:
    """Nothing for 0.5 s: the log's service times are short, and response times follow from the schedule."""
    log: list[Row] = []
    free_at = [0.0] * 4
    for number in range(600):
        due, user = 10 + number / 300, number % 4
        received = max(due, free_at[user])
        free_at[user] = 11.5 if 11.0 <= received < 11.5 else received + 0.002
        log.append(Row(user, received, free_at[user], free_at[user], "", "GET"))
    found = list(compare(CELL, 0, true_results(), log))
    assert any(one.startswith("response p90_us is 2000") for one in found)
    assert not any(one.startswith("service p90_us") for one in found)


def test_the_table_has_every_cell_and_finds_its_place(tmp_path: Path) -> None:
    outcomes = [CellOutcome(cell, (), 1, False) for cell in all_cells()]
    table = markdown(outcomes)
    assert table.count(" ok |") == len(list(all_cells()))
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- truth: made by `kvss load truth --write` -->\nold\n<!-- end of truth -->\nafter\n")
    write(page, table)
    write(page, table)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert text.count("| fixed delay of 2 ms |") == 1
    assert "old" not in text
    page.write_text("nothing")
    with pytest.raises(Fail, match="has no place for the table"):
        write(page, table)
    with pytest.raises(Fail, match="No such file"):
        write(tmp_path / "none.md", table)


def test_only_some_cells_are_run_again_and_the_rest_of_the_table_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def attempt(cell: Cell, number: int = 1) -> CellOutcome:
        return CellOutcome(cell, ("it does not agree",), number, False)

    monkeypatch.setattr(harness, "attempt", attempt)
    monkeypatch.setattr(table, "attempt", attempt)
    page = tmp_path / "page.md"
    page.write_text("<!-- truth: made by `kvss load truth --write` --><!-- end of truth -->")
    write(page, markdown([CellOutcome(cell, (), 1, False) for cell in all_cells()]))
    assert main(["load", "truth", "--only", "silence; poisson, 2", "--write", str(page)]) == 1
    text = page.read_text()
    assert text.count(" NOT |") == 2
    assert text.count(" ok |") == len(list(all_cells())) - 2
    assert "| silence |" + " ok |" * 10 + " NOT |" * 2 in text
    capsys.readouterr()
    assert main(["load", "truth", "--only", "nowhere"]) == 2
    assert "no cell has 'nowhere' in its name" in capsys.readouterr().err
    for odd in (["--minutes", "nan"], ["--minutes", "-1"], ["--together", "0"], ["--search", "--minutes", "inf"]):
        assert main(["load", "truth", *odd]) == 2
        assert f"kvss load truth: argument {odd[-2]}: {odd[-1]!r} is not a " in capsys.readouterr().err


def test_a_known_server_logs_a_request_from_when_the_kernel_had_it() -> None:
    with StampedSocket.bound() as listener, socket.socket() as client:
        listener.listen()
        client.connect(listener.getsockname())
        accepted, _ = listener.accept()
        with accepted:
            for _ in range(20):  # The kernel begins to stamp a moment after it was asked to.
                before = clock()
                client.send(b"line\n")
                after = clock()
                time.sleep(0.1)
                assert accepted.recv(100) == b"line\n"
                if before - 0.05 <= StampedSocket.received <= after + 0.05:
                    return
    pytest.fail("no request was stamped")


def test_a_value_is_stale_only_where_its_client_must_know() -> None:
    def ask(verb: bytes, at: float, value: bytes = b"") -> bytes:
        request = ReceivedRequest(verb, b"key", value, at, at, 0, 0)
        return (stale(state, request) or Answer(right(state, request), at)).reply

    state = State()
    for at, value in ((1.0, b"a"), (2.0, b"b")):
        ask(b"PUT", at, value)
    assert ask(b"GET", 2.1) == b"200 OK b"
    assert ask(b"GET", 2.4) == b"200 OK a"
    ask(b"PUT", 3.0, b"c")
    ask(b"PUT", 3.01, b"d")  # under way together with the one before
    assert ask(b"GET", 3.5) == b"200 OK d"


def test_a_known_server_serves_what_came_together_one_after_the_other() -> None:
    with harness.serving("fixed delay of 2 ms") as (port, server):
        with socket.create_connection(("127.0.0.1", int(port))) as client:
            client.sendall(b"KV/1.0 GET missing\n" * 5)
            with client.makefile("rb") as replies:
                assert [replies.readline() for _ in range(5)] == [b"404 NOT_FOUND\n"] * 5
        log, _ = server.communicate(timeout=20)
    rows = [Row(*row) for row in json.loads(log)]
    received = rows[0].received
    assert [row.received for row in rows] == [received] * 5
    for number, row in enumerate(rows, 1):
        assert row.leaving is not None
        assert row.replied is not None
        assert received + 0.002 * number - 1e-6 <= row.leaving <= row.replied


SEARCHES = [
    ((495, 500, 485), 0, "agree within 5%, and all are"),
    ((495, 500, 470), 1, "do not agree within 5%, and not all are"),
    ((719, 700, 710), 1, "agree within 5%, and not all are"),
    ((495, 0, 485), 4, "too busy to tell: no trial"),
    ((495, 500, -1), 4, "too busy to tell: 2 of 3 searches ended in 15 minutes"),
]


@pytest.mark.parametrize(("answers", "code", "said"), SEARCHES, ids=[said for *_, said in SEARCHES])
def test_three_searches_agree_or_say_that_they_cannot_tell(
    answers: tuple[int, ...],
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An answer of 0 is a search that cannot tell, one of -1 does not end."""
    ends = dict(zip(knee.STARTS, answers, strict=True))

    @contextmanager
    def server(_: str) -> Iterator[tuple[str, None]]:
        yield "1", None

    def search(_: str, start: int, limit_s: float) -> tuple[int, str]:
        if ends[start] < 0:
            raise subprocess.TimeoutExpired("search", limit_s)
        if not ends[start]:
            return EXIT_UNCLEAR, "the machine is too busy to tell: no trial\n"
        return 0, f"highest rate that holds p99<50ms: {ends[start]:,} requests/s\n"

    monkeypatch.setattr(knee, "serving", server)
    monkeypatch.setattr(knee, "_search", search)
    assert knee.run(15) == code
    assert said in capsys.readouterr().out


def test_cells_run_side_by_side_and_again_alone_until_the_time_is_over(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def attempt(cell: Cell, number: int = 1) -> CellOutcome:
        return CellOutcome(cell, ("it does not agree",) if number < 2 else (), number, False)

    monkeypatch.setattr(harness, "attempt", attempt)
    monkeypatch.setattr(table, "attempt", attempt)
    assert main(["load", "truth", "--quick"]) == 0
    assert "ok (2)" in capsys.readouterr().out
    assert main(["load", "truth", "--quick", "--minutes", "1e-9"]) == 1
    assert "0 of 4 agree, 0 do not, 0 were disturbed by the machine, 4 were not run" in capsys.readouterr().out
