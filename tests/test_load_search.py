"""The search finds the knee of a made-up server, knows why a rate does not hold, and says where it cannot tell."""

import argparse
import itertools
from random import Random
from typing import Any

import pytest

from kvss_gevent.cli import main
from kvss_gevent.loadtest.search import EXIT_UNCLEAR, SearchTrial, UnclearError, judge, read_slo, search, seconds_for
from kvss_gevent.settings.fail import Fail


def trial(rate: float, knee: float, doubt: str = "") -> SearchTrial:
    return SearchTrial(rate, "p99<5ms: 1.000 ms", "" if rate <= knee else "p99<5ms: 9.000 ms", doubt)


@pytest.mark.parametrize("knee", [1, 700, 1000, 1500, 23_456, 999_000])
def test_the_highest_rate_is_found(knee: float) -> None:
    tried: list[float] = []

    def try_rate(rate: float) -> SearchTrial:
        tried.append(rate)
        return trial(rate, knee)

    best = search(try_rate, 1000, 0.02)
    assert knee * 0.97 <= best <= knee
    assert len(tried) < 50


def test_a_server_that_never_holds_ends_the_search() -> None:
    assert search(lambda rate: trial(rate, 0), 1000, 0.05) == 0


def test_three_searches_on_a_noisy_machine_agree() -> None:
    """One trial in six is disturbed and says so, one in twelve breaks, and one in twelve holds, by luck."""
    answers = []
    for seed in range(3):
        rng = Random(seed)

        def try_rate(rate: float, rng: Random = rng) -> SearchTrial:
            luck = rng.random()
            if luck < 1 / 6:
                return trial(rate, 0, "the generator stood still for 50 ms")
            if luck < 1 / 4:
                return trial(rate, 0)
            return trial(rate, 1010 if luck < 1 / 3 else 1000)

        answers.append(search(try_rate, 700, 0.02))
    assert max(answers) - min(answers) <= 0.05 * max(answers)
    assert 960 <= min(answers) <= max(answers) <= 1020


def test_a_rate_that_held_by_luck_falls_when_it_is_tried_again() -> None:
    tries = itertools.count()

    def try_rate(rate: float) -> SearchTrial:
        return trial(rate, 2000 if next(tries) < 2 else 1200)

    assert 1150 <= search(try_rate, 1000, 0.02) <= 1200


def test_a_machine_that_is_too_busy_cannot_tell() -> None:
    with pytest.raises(UnclearError, match="waited for a CPU"):
        search(lambda rate: trial(rate, 900, "the generator waited for a CPU"), 1000, 0.02)


def results(**changes: Any) -> dict[str, Any]:
    requests = {
        "answered": 10,
        "failed": 0,
        "connect_failed": 0,
        "due": 10,
        "answered_per_s": 1000,
        "offered_per_s": 1000,
    }
    findings = [
        {"ok": False, "text": "the generator was late"},
        {"ok": False, "text": "the server returned wrong data"},
    ]
    figures = {
        "count": 1000,
        "p99_us": changes.get("p99_us", 4000),
        "max_us": 9000,
        "at_least": [],
        "few": changes.get("few", []),
    }
    return {
        "requests": {**requests, **changes},
        "response": figures,
        "verdict": {"findings": findings, "trusted": False},
    }


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, ""),
        ({"p99_us": 5001}, "p99<5ms: 5.001 ms"),
        ({"failed": 1}, "errors<=0: 1"),
        ({"answered_per_s": 900}, "rate>=0.99: 0.9000"),
        ({"answered": 0}, "p99<5ms: nothing was measured; errors<=0: nothing was measured"),
    ],
)
def test_why_a_rate_does_not_hold(changes: dict[str, Any], why: str) -> None:
    found = judge(1000, results(**changes), read_slo("p99<5ms"))
    assert found.why_not.startswith(why)
    assert found.holds == (not why)
    assert found.doubt == "the generator was late"


def test_what_the_promise_says_itself_is_not_added() -> None:
    assert [one.text for one in read_slo("p99<5ms, errors<1%")] == ["p99<5ms", "errors<1%", "rate>=0.99", "measured"]


def test_a_percentile_gets_the_requests_it_needs() -> None:
    assert seconds_for(1000, read_slo("p99<5ms"), 5) == 5
    assert seconds_for(100, read_slo("p99<5ms"), 5) == pytest.approx(10.5)
    assert seconds_for(1000, read_slo("p99.9<5ms, p50<1ms"), 5) == pytest.approx(10.5)
    assert seconds_for(10, read_slo("p99.9<5ms"), 5) == 60
    few = judge(10, results(few=["p99_us"]), read_slo("p99<1ms"))
    assert "p99 rests on fewer than 10 requests" in few.doubt


@pytest.mark.parametrize("arguments", [["--slo", "p98<5ms"], ["--slo", "p99"], ["--users", "0"], ["--precision", "2"]])
def test_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["load", "search", *arguments]) == 2
    assert "`kvss load search --help` says what it takes." in capsys.readouterr().err


def run_main(monkeypatch: pytest.MonkeyPatch, knee: float, doubt: str = "") -> int:
    def tried(rate: float, _args: argparse.Namespace, _: object) -> SearchTrial:
        return trial(rate, knee, doubt)

    monkeypatch.setattr("kvss_gevent.loadtest.search.run_once", tried)
    return main(["load", "search", "--slo", "p99<5ms", "--start", "1000"])


def test_the_answer_is_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main(monkeypatch, 4000) == 0
    out = capsys.readouterr().out
    assert "does not hold: p99<5ms: 9.000 ms" in out
    assert out.endswith("highest rate that holds p99<5ms: 4,000 requests/s\n")


def test_no_rate_may_hold(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main(monkeypatch, 0) == 1
    assert "no rate from 1,000/s down holds p99<5ms" in capsys.readouterr().out


def test_a_busy_machine_has_an_exit_code(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main(monkeypatch, 2000, "the generator was late") == EXIT_UNCLEAR
    out, err = capsys.readouterr()
    assert "in doubt: the generator was late" in out
    assert out.endswith("the search did not end; the highest rate that held p99<5ms: 2,000 requests/s\n")
    assert err.startswith("kvss load: the machine is too busy to tell: the generator was late\n  ")


@pytest.mark.parametrize(("error", "code"), [(Fail("no server", "", 3), 3), (KeyboardInterrupt(), 130)])
def test_what_was_found_before_an_end_that_came_early_is_told(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def tried(rate: float, *_: object) -> SearchTrial:
        if rate > 2000:
            raise error
        return trial(rate, rate)

    monkeypatch.setattr("kvss_gevent.loadtest.search.run_once", tried)
    assert main(["load", "search", "--start", "1000"]) == code
    out, err = capsys.readouterr()
    assert out.endswith("the search did not end; the highest rate that held p99<5ms: 2,000 requests/s\n")
    assert ("no server" in err) == (code == 3)


@pytest.mark.server
def test_bad_options_for_locust_are_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["load", "search", "--seconds", "1", "--", "--kv-mix", "foo"]) == 2
    assert capsys.readouterr().err.startswith("kvss load: argument --kv-mix: unknown mix 'foo'")


@pytest.mark.server
def test_a_missing_server_ends_the_search_with_its_complaint(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["load", "search", "--host", "127.0.0.1:1", "--seconds", "1"]) == 3
    assert "no server at 127.0.0.1:1: cannot connect: Connection refused" in capsys.readouterr().err
