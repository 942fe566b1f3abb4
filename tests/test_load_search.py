"""loadtest/search.py: it finds the knee of a made-up server, and knows why a rate does not hold."""

from typing import Any

import pytest

from kvss_gevent.loadtest.search import Promise, Trial, judge, main, parse_promise, search
from kvss_gevent.settings.fail import Fail


@pytest.mark.parametrize("knee", [1, 700, 1000, 1500, 23_456, 999_000])
def test_the_highest_rate_is_found(knee: float) -> None:
    trials = list(search(lambda rate: Trial(rate, rate, 0, "" if rate <= knee else "slow"), 1000, 0.02))
    best = max(trial.rate for trial in trials if trial.holds)
    assert knee * 0.97 <= best <= knee or best == 1
    assert len(trials) < 30


def test_a_server_that_never_holds_ends_the_search() -> None:
    trials = list(search(lambda rate: Trial(rate, rate, 0, "slow"), 1000, 0.05))
    assert not any(trial.holds for trial in trials)
    assert trials[-1].rate <= 2


def results(**changes: Any) -> dict[str, Any]:
    requests = {"count": 10, "errors": 0, "dropped": 0, "unsent": 0, "achieved_per_s": 1000, "offered_per_s": 1000}
    findings = [{"ok": False, "text": "the generator was late"}]
    return {
        "requests": {**requests, **changes},
        "response": {"p99_us": changes.get("p99_us", 4000), "max_us": 9000},
        "verdict": {"findings": findings},
    }


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, ""),
        ({"p99_us": 5001}, "p99 is 5.001 ms"),
        ({"errors": 1}, "1 failed"),
        ({"unsent": 2}, "2 were never sent"),
        ({"achieved_per_s": 900}, "only 900/s were answered"),
        ({"count": 0}, "nothing was measured"),
    ],
)
def test_why_a_rate_does_not_hold(changes: dict[str, Any], why: str) -> None:
    trial = judge(1000, results(**changes), parse_promise("p99:5ms"))
    assert (trial.why_not, trial.holds) == (why, not why)
    assert trial.doubt == "the generator was late"


def test_promises_are_read() -> None:
    assert parse_promise("p99.9:250us") == Promise("p99.9_us", 250)
    assert parse_promise("max:1s") == Promise("max_us", 1e6)


@pytest.mark.parametrize("arguments", [["--slo", "p98:5ms"], ["--slo", "p99"], ["--users", "0"], ["--precision", "2"]])
def test_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "error:" in capsys.readouterr().err


def run_main(monkeypatch: pytest.MonkeyPatch, knee: float) -> int:
    def tried(rate: float, *_: object) -> Trial:
        return Trial(rate, rate, rate, "" if rate <= knee else "p99 is too late", "the generator was late")

    monkeypatch.setattr("kvss_gevent.loadtest.search.run_once", tried)
    return main(["--slo", "p99:5ms", "--start", "1000"])


def test_the_answer_is_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main(monkeypatch, 4000) == 0
    out = capsys.readouterr().out
    assert "does not hold: p99 is too late" in out
    assert "in doubt: the generator was late" in out
    assert out.endswith("highest rate that holds p99:5ms: 4,000 requests/s\n")


def test_no_rate_may_hold(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main(monkeypatch, 0) == 1
    assert "no rate from 1,000/s down holds p99:5ms" in capsys.readouterr().out


@pytest.mark.parametrize(("error", "code"), [(Fail("no server", "", 3), 3), (KeyboardInterrupt(), 130)])
def test_what_was_found_before_an_end_that_came_early_is_told(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def tried(rate: float, *_: object) -> Trial:
        if rate > 2000:
            raise error
        return Trial(rate, rate, rate, "")

    monkeypatch.setattr("kvss_gevent.loadtest.search.run_once", tried)
    assert main(["--start", "1000"]) == code
    out, err = capsys.readouterr()
    assert out.endswith("the search did not end; the highest rate that held p99:5ms: 2,000 requests/s\n")
    assert ("no server" in err) == (code == 3)


@pytest.mark.server
def test_bad_options_for_locust_are_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seconds", "1", "--", "--kv-mix", "foo"]) == 2
    assert capsys.readouterr().err.startswith("argument --kv-mix: unknown mix 'foo'")


@pytest.mark.server
def test_a_missing_server_ends_the_search_with_its_complaint(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--host", "127.0.0.1:1", "--seconds", "1"]) == 3
    assert "no server at 127.0.0.1:1: cannot connect: Connection refused" in capsys.readouterr().err
