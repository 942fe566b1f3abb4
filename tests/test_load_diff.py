"""Two runs side by side, and repeats: which differences are real, and what the interval means."""

import json
import statistics
import subprocess
from pathlib import Path
from random import Random
from typing import Any

import pytest
from load_servers import serving

from kvss_gevent.cli import main
from kvss_gevent.loadtest import repeat
from kvss_gevent.loadtest.report import diff
from kvss_gevent.loadtest.report.figures import PERCENTILES
from kvss_gevent.settings.fail import Fail


def result(us: int, **options: str) -> dict[str, Any]:
    figures = {"count": us, **dict.fromkeys((*PERCENTILES, "max_us", "min_us"), us)}
    return {
        "format": "kvss-load",
        "version": 2,
        "options": {"rate": "100", **options},
        "requests": {"answered_per_s": 100.0, "failed": 0},
        "response": figures,
        "service": figures,
        "verdict": {"trusted": us < 900, "findings": [{"ok": us < 900, "text": "the generator was late"}]},
    }


def side(path: Path, *us: int, **options: str) -> Path:
    for number, one in enumerate(us, 1):
        (path / str(number)).mkdir(parents=True)
        (path / str(number) / "results.json").write_text(json.dumps(result(one, **options)))
    return path


def test_a_difference_is_real_where_all_runs_of_one_side_lie_beyond_the_others(tmp_path: Path) -> None:
    a, b, c = (
        diff.read_side(side(tmp_path / name, *us))
        for name, us in (("a", (1, 2, 3)), ("b", (4, 5, 6)), ("c", (3, 4, 5)))
    )
    assert {one.name: one.real for one in diff.compare(a, b)}["response p99, us"] is True
    assert {one.name: one.real for one in diff.compare(a, c)}["response p99, us"] is False
    assert {one.name: one.real for one in diff.compare(a, b)}["answered/s"] is False
    assert {one.name: one.change for one in diff.compare(a, b)}["service p50, us"] == "+150.0%"


def test_runs_without_replies_have_no_times_to_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left, right = side(tmp_path / "a", 0, 0), side(tmp_path / "b", 5, 6)
    assert main(["load", "diff", str(left), str(right), "--page", str(tmp_path / "page.html")]) == 0
    out = capsys.readouterr().out
    assert [line.split()[3:] for line in out.splitlines() if line.startswith("response p99, us")] == [["-", "6", "?"]]
    assert repeat.text([result(0), result(0)]).splitlines()[2].split() == ["p50,", "us", "-", "-", "-"]


def test_one_run_a_side_cannot_tell_and_options_and_doubts_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left, right = side(tmp_path / "a", 100) / "1", side(tmp_path / "b", 950, mix="1:1:0") / "1"
    assert main(["load", "diff", str(left), str(right), "--page", str(tmp_path / "page.html")]) == 0
    out = capsys.readouterr().out
    assert "options differ: --kv-mix: none and 1:1:0" in out
    assert "not to be trusted: 1 of 1 runs of 1, the first because the generator was late\n" in out
    assert {line.split()[-1] for line in out.splitlines() if line.startswith("response")} == {"?"}
    page = (tmp_path / "page.html").read_text()
    assert page.count("<svg") == 1
    assert "Options that differ" in page


def test_a_directory_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Fail, match="there are no results in"):
        diff.read_side(tmp_path)
    old = side(tmp_path / "old", 1)
    (old / "1" / "results.json").write_text('{"format": "kvss-load", "version": 1}')
    with pytest.raises(Fail, match="not a result of this version of the load tester"):
        diff.read_side(old)


@pytest.mark.parametrize("count", [2, 5])
def test_the_interval_holds_the_true_median_as_often_as_it_says(count: int) -> None:
    rng = Random(1)
    hits = 0
    for _ in range(4000):
        least, greatest, probability = repeat.interval([rng.expovariate(1) for _ in range(count)])
        hits += least <= 0.6931 <= greatest
    assert hits / 4000 == pytest.approx(probability, abs=0.03)


@pytest.mark.parametrize(
    "text",
    [
        "[1]",
        "7",
        "{}",
        '{"format": "kvss-load", "version": 1}',
        '{"format": "kvss-load", "version": 2}',
        json.dumps({**result(1), "response": 7}),
        json.dumps({**result(1), "requests": {"answered_per_s": "1", "failed": 0}}),
        json.dumps({**result(1), "verdict": {"trusted": False, "findings": [7]}}),
        json.dumps({**result(1), "options": []}),
    ],
    ids=range(9),
)
def test_a_file_that_is_no_result_is_refused_in_two_lines(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "results.json").write_text(text)
    assert main(["load", "diff", str(tmp_path), str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert err.startswith(
        f"kvss load: {tmp_path / 'results.json'} is not a result of this version of the load tester\n  "
    )
    assert err.count("\n") == 2


def test_a_repeat_whose_run_fails_says_why_and_never_takes_the_results_of_an_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "kvss load: no server at 127.0.0.1:1: refused\n  Start a server there\n"

    def refused(*_: Any, **__: Any) -> Any:
        return subprocess.CompletedProcess([], 3, "", "[now] vm/INFO/locust.main: Starting\n" + said)

    side(tmp_path / "out", 100, 100)
    (tmp_path / "out" / "1" / "response.hlog").touch()
    monkeypatch.setattr(repeat.subprocess, "run", refused)
    assert main(["load", "repeat", "2", str(tmp_path / "out"), "-t", "1s"]) == 3
    captured = capsys.readouterr()
    assert captured.err == "kvss load: run 1: no server at 127.0.0.1:1: refused\n  Start a server there\n"
    assert captured.out == ""


@pytest.mark.full
@pytest.mark.server
def test_repeats_are_made_and_can_be_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving() as port:
        options = ["-H", f"127.0.0.1:{port}", "-u", "1", "-r", "100", "-t", "1", "--kv-warmup", "0s", "--kv-keys", "20"]
        assert main(["load", "repeat", "2", str(tmp_path / "a"), *options]) == 0
    out = capsys.readouterr().out
    assert "between least and greatest with a probability of 50%" in out
    found = diff.read_side(tmp_path / "a")
    assert len(found.runs) == 2
    rates = found.values("requests", "answered_per_s")
    assert f"{statistics.median(rates):,.0f}" in out
