"""Whole runs of locust against a server: what a user sees, in files, on the terminal, and as exit code."""

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader
from load_runs import ROOT, command, environment, run
from load_servers import right, serving
from serving import wait_until

from kvss_gevent.loadtest.engine.histogram import HIGHEST_US
from kvss_gevent.loadtest.engine.load_run import NO_REPLY
from kvss_gevent.measure.launch import free_port

pytestmark = pytest.mark.server


@contextmanager
def server() -> Iterator[tuple[int, int]]:
    """Run the gevent server in a process of its own; yields its port and its pid."""
    process = subprocess.Popen(
        [sys.executable, "-m", "kvss_gevent", "serve", "127.0.0.1", "0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline().rpartition(":")[2]), process.pid
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(10)
        process.stdout.close()


@contextmanager
def measuring(*command_line: str) -> Iterator[subprocess.Popen[str]]:
    """Run locust until the block ends; yields it when its warm-up begins."""
    pipe = subprocess.PIPE
    locust = subprocess.Popen(command_line, cwd=ROOT, env=environment(), stdout=pipe, stderr=pipe, text=True)
    try:
        assert locust.stderr is not None
        while "the measured window" not in (line := locust.stderr.readline()):
            assert line, "locust has ended"
        yield locust
    finally:
        locust.kill()
        locust.communicate()


@pytest.mark.full
@pytest.mark.timing
def test_a_stalled_server_shows_in_response_time_and_not_in_service_time(tmp_path: Path) -> None:
    options = ("-u", "2", "-t", "5", "--kv-rate", "1000", "--kv-out", str(tmp_path))
    with server() as (port, pid), measuring(*command(port, *options, "--kv-server-pid", str(pid))) as locust:
        time.sleep(2)
        os.kill(pid, signal.SIGSTOP)
        time.sleep(1.5)
        os.kill(pid, signal.SIGCONT)
        out, _ = locust.communicate(timeout=30)
    results = json.loads((tmp_path / "results.json").read_text())
    assert locust.returncode == 0
    assert results["loop"] == "open"
    assert results["response"]["max_us"] >= 1_400_000
    assert results["response"]["p99_us"] >= 1_000_000
    assert results["service"]["p99_us"] < 500_000, "a closed-loop tool would have sent two slow requests"
    assert results["requests"]["answered"] == pytest.approx(5000, rel=0.01)
    assert results["requests"]["max_backlog"] > 1000
    assert results["server"]["cpu_us_per_request"] > 0
    assert results["server"]["rss_bytes"] > 1 << 20
    assert "open loop" in out


@pytest.mark.full
@pytest.mark.timing
def test_the_schedule_of_1000_a_second_is_late_by_less_than_300_us_at_the_median(tmp_path: Path) -> None:
    """Other processes only make it later, never earlier: the best of three runs is what the schedule can do."""
    lags = []
    with server() as (port, _):
        for number in range(3):
            done = run(port, "-u", "2", "-t", "2", "--kv-rate", "1000", out=tmp_path / str(number))
            assert done.results["requests"]["answered"] == pytest.approx(2000, rel=0.01)
            lags.append(done.results["lag"]["p50_us"])
            if lags[-1] < 300:
                return
    pytest.fail(f"late by {lags} us")


@pytest.mark.timing
def test_two_processes_merge_to_exactly_what_each_counted(tmp_path: Path) -> None:
    with server() as (port, _):
        options = ("-u", "4", "-t", "2", "--kv-rate", "2000", "--processes", "2", "--kv-warmup", "500ms")
        master = str(free_port())
        done = run(port, *options, "--master-bind-port", master, "--master-port", master, out=tmp_path)
    assert done.code == 0, done.err
    results = done.results
    counted = results["requests"]["counted_by_process"]
    assert len(counted) == 2
    assert all(count > 1000 for count in counted.values())
    assert sum(counted.values()) == results["requests"]["answered"] == results["response"]["count"]
    assert results["requests"]["answered"] == pytest.approx(4000, rel=0.01)
    assert results["environment"]["processes"] == 2
    answered = results["requests"]["answered_per_s"] * results["window"]["measured_s"]
    assert sum(row["answered"] for row in results["rows"]) == pytest.approx(answered, abs=1)
    by_command = sum(kinds["response"]["count"] for one in results["commands"].values() for kinds in one.values())
    assert by_command == results["requests"]["answered"]


@pytest.mark.full
def test_a_worker_that_is_killed_is_told_and_the_rest_is_kept(tmp_path: Path) -> None:
    port = str(free_port())
    processes: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        locust = [sys.executable, "-m", "locust", "-f", "loadtest/kvss_locust.py", *arguments]
        pipe = subprocess.PIPE
        process = subprocess.Popen(locust, cwd=ROOT, env=environment(), stdout=pipe, stderr=pipe, text=True)
        processes.append(process)
        return process

    with serving() as served:
        options = ("-H", f"127.0.0.1:{served}", "-u", "4", "-r", "100", "-t", "6", "--kv-rate", "400")
        bound = ("--master-bind-port", port, "--kv-out", str(tmp_path))
        master = start("--master", "--headless", "--expect-workers", "2", *bound, *options)
        worker, _ = start("--worker", "--master-port", port), start("--worker", "--master-port", port)
        try:
            assert master.stderr is not None
            while "the measured window" not in (line := master.stderr.readline()):
                assert line, "the master has ended"
            time.sleep(3)
            worker.kill()
            out, _ = master.communicate(timeout=40)
        finally:
            for process in processes:
                process.kill()
                process.communicate()
    assert master.returncode == 1
    assert "NOT 1 of 2 worker processes were lost" in out
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["requests"]["answered"] > 400
    assert len(results["requests"]["counted_by_process"]) == 2


def test_every_output_holds_the_same_figures(tmp_path: Path) -> None:
    prefix = tmp_path / "locust"
    with serving() as port:
        extra = ("--csv", str(prefix), "--html", str(tmp_path / "locust.html"), "--kv-rate", "500")
        done = run(port, "-u", "2", "-t", "1", "--kv-keys", "100", *extra, out=tmp_path / "out")
    assert done.code == 0
    out = tmp_path / "out"
    results = done.results
    assert (results["format"], results["version"], results["seed"]) == ("kvss-load", 2, 1)
    for kind in ("response", "service", "lag"):
        assert {"p50_us", "p99_us", "p99.99_us", "max_us"} <= set(results[kind])
        assert f"TotalCount     = {results[kind]['count']:12.3f}" in (out / f"{kind}.hgrm").read_text()
    whole = HdrHistogram(1, HIGHEST_US, 3)
    reader = HistogramLogReader(str(out / "response.hlog"), whole)
    while reader.add_next_interval_histogram(whole):
        pass
    reader.close()
    assert whole.get_total_count() == results["response"]["count"]
    assert whole.get_value_at_percentile(99) == results["response"]["p99_us"]
    with (out / "rows.csv").open() as rows:
        answered = results["requests"]["answered_per_s"] * results["window"]["measured_s"]
        assert sum(int(row["answered"]) for row in csv.DictReader(rows)) == pytest.approx(answered, abs=1)
    page = (out / "report.html").read_text()
    assert page.count("<svg") >= 3
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page
    with Path(f"{prefix}_stats.csv").open() as rows:
        last = list(csv.DictReader(rows))[-1]
    assert int(last["Request Count"]) == results["requests"]["answered"], "the last row is the whole run"
    assert 0 < float(last["99%"]) <= results["response"]["max_us"] / 1000 * 1.01, "it is in milliseconds"
    assert "." in last["50%"], "a share of a millisecond is not cut off"
    assert int(last["Failure Count"]) == 0
    assert "0 aborted + 0 dropped" in done.out


@pytest.mark.full
def test_a_server_that_dies_ends_the_run_and_what_was_measured_is_kept(tmp_path: Path) -> None:
    with server() as (port, pid):
        options = ("-u", "2", "-t", "30", "--kv-give-up", "1s", "--kv-warmup", "0s", "--kv-out", str(tmp_path))
        with measuring(*command(port, *options)) as locust:
            time.sleep(1)
            os.kill(pid, signal.SIGKILL)
            _, err = locust.communicate(timeout=20)
    results = json.loads((tmp_path / "results.json").read_text())
    assert locust.returncode == 3
    assert "the server could not be reached for 1 s" in err
    assert results["requests"]["hits"] > 100
    assert "cannot connect: Connection refused" in results["connect_errors"]
    assert not results["verdict"]["trusted"]


@pytest.mark.full
@pytest.mark.parametrize("processes", [1, 2])
def test_ctrl_c_again_and_again_keeps_what_was_measured_and_says_it_is_not_all(processes: int, tmp_path: Path) -> None:
    more = [] if processes == 1 else ["--processes", "2", "--master-port", str(free_port())]
    more += ["--master-bind-port", more[-1]] if more else []
    options = ("-u", "2", "-t", "60", "--kv-out", str(tmp_path), "--kv-keys", "50", "--kv-warmup", "0s", *more)
    asked: list[bytes] = []

    def noting(data: dict[bytes, bytes], words: list[bytes]) -> bytes:
        asked.append(words[1])
        return right(data, words)

    with serving(noting) as port, measuring(*command(port, *options)) as locust:
        wait_until(lambda: len(asked) > 1000, limit_s=30)
        children = psutil.Process(locust.pid).children()
        begin_s = time.monotonic()
        while locust.poll() is None and time.monotonic() < begin_s + 30:  # also while the interpreter ends
            for one in (locust, *children):
                with suppress(psutil.NoSuchProcess):
                    one.send_signal(signal.SIGINT)
            time.sleep(0.002)
        out, err = locust.communicate(timeout=1)
    assert locust.returncode == 0, out + err
    assert "NOT the run was cut short: " in out
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["requests"]["answered"] > 0
    assert 0 < results["window"]["measured_s"] < 20
    assert results["requests"]["aborted"] <= 2
    assert results["requests"]["unaccounted"] == 0


@pytest.mark.full
def test_a_slow_reply_is_a_failure_in_time_and_so_is_none_until_the_end(tmp_path: Path) -> None:
    quiet = threading.Event()

    def forgetful(data: dict[bytes, bytes], words: list[bytes]) -> bytes:
        if words[1:2] == [b"GET"]:
            quiet.wait(20)
        return right(data, words)

    mix = ("--kv-mix", "1:0:0", "--kv-keys", "5", "--kv-warmup", "0s")
    with serving(forgetful) as port:
        late = run(port, "-u", "1", "-t", "1", "--kv-timeout", "400ms", *mix, out=tmp_path / "late")
    with serving(forgetful) as port:
        silent = run(port, "-u", "3", "-t", "1", "--kv-drain", "200ms", *mix, out=tmp_path / "silent")
    quiet.set()
    assert late.code == 1
    assert late.results["failures"] == {"no reply in time": late.results["requests"]["failed"]}
    assert late.results["requests"]["failed"] >= 1
    assert silent.code == 1, "a server that answers nothing does not pass"
    assert silent.results["failures"] == {NO_REPLY: 3}
    assert silent.results["requests"]["failed"] == 3
    assert silent.results["response"]["p50_us"] >= 1_100_000
    assert {"p50_us", "p99_us", "max_us"} <= set(silent.results["response"]["at_least"])
    assert "NOT the server answered nothing: 3 requests had no reply when the run ended" in silent.out


def test_options_come_from_the_environment_and_from_locust_conf(tmp_path: Path) -> None:
    (tmp_path / "locust.conf").write_text("kv-keys = 33\nkv-warmup = 0s\n")
    locustfile = str(ROOT / "loadtest" / "kvss_locust.py")
    with serving() as port:
        env = {"KVSS_LOAD_MIX": "0:1:0", "PYTHONPATH": str(ROOT)}
        done = run(port, "-u", "1", "-t", "1", out=tmp_path / "out", cwd=tmp_path, env=env, locustfile=locustfile)
    assert done.code == 0, done.err
    assert done.results["options"]["keys"] == "33"
    assert set(done.results["commands"]) == {"PUT"}
