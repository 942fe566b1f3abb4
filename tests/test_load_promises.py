"""What the load tester promised and once did not keep: each test is a whole run against a server in a thread."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from load_runs import ROOT, command, environment, run
from load_servers import Answer, right, serving

from kvss_gevent.measure.launch import free_port

pytestmark = pytest.mark.server


def slow(per_s: float) -> Answer:
    """Return an answer that takes its time, one request after the other."""

    def answer(data: dict[bytes, bytes], words: list[bytes]) -> bytes:
        if words[1:2] in ([b"GET"], [b"PUT"]) and b".L " not in words[-1]:
            time.sleep(1 / per_s)
        return right(data, words)

    return answer


@pytest.mark.full
@pytest.mark.timing
def test_in_overload_what_was_answered_in_the_window_is_the_throughput_whatever_the_warm_up(tmp_path: Path) -> None:
    for number, warmup in enumerate(("0s", "1500ms")):
        with serving(slow(100)) as port:
            options = (
                "-u",
                "2",
                "-t",
                "2",
                "--kv-rate",
                "300",
                "--kv-keys",
                "20",
                "--kv-warmup",
                warmup,
                "--kv-drain",
                "1s",
            )
            done = run(port, *options, out=tmp_path / str(number))
        requests = done.results["requests"]
        assert requests["offered_per_s"] == pytest.approx(300)
        assert 60 < requests["answered_per_s"] < 104
        assert requests["unaccounted"] == 0
        assert requests["due"] == pytest.approx(600, abs=2)
        assert (requests["backlog_at_begin"] > 100) == (warmup != "0s")
    assert "were behind when the window began" in done.out


OWN_ON_START = """
from locust import task
from kvss_gevent.loadtest.locust_plugin.load_users import KvssUser

class Mine(KvssUser):
    def on_start(self):
        self.ready = True

    def on_stop(self):
        self.ready = False

    @task
    def look(self):
        assert self.ready
        self.client.get("key")
"""


@pytest.mark.full
def test_an_on_start_that_does_not_call_the_one_above_it_changes_no_loop(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN_ON_START)
    with serving() as port:
        options = ("-u", "2", "-t", "2", "--kv-rate", "50", "--kv-warmup", "200ms")
        done = run(port, *options, out=tmp_path / "out", locustfile=str(tmp_path / "mine.py"))
    assert done.code == 0, done.err
    assert done.results["requests"]["due"] == pytest.approx(100, abs=1)
    assert done.results["requests"]["answered_per_s"] == pytest.approx(50, abs=3)


@pytest.mark.full
def test_tasks_that_cannot_follow_a_rate_and_tags_that_leave_none_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from locust import TaskSet, constant, task\n"
        "from kvss_gevent.loadtest.locust_plugin.load_users import KvssUser\n"
        "class Slowly(TaskSet):\n"
        "    wait_time = constant(1)\n"
        "    @task\n"
        "    def look(self):\n"
        "        self.client.get('key')\n"
        "class Mine(KvssUser):\n"
        "    tasks = [Slowly]\n"
    )
    with serving() as port:
        paced = run(port, "-t", "1", "--kv-rate", "50", locustfile=str(tmp_path / "mine.py"))
        tagged = run(port, "-t", "1", "--tags", "foo")
    assert (paced.code, tagged.code) == (2, 2)
    assert "Mine: its tasks Slowly have their own wait_time and do not follow --kv-rate" in paced.err
    assert "KvssMix has no task with the tags foo" in tagged.err
    assert "Traceback" not in paced.err + tagged.err


@pytest.mark.full
def test_users_of_another_protocol_have_their_own_host(tmp_path: Path) -> None:
    with serving() as port:
        (tmp_path / "mine.py").write_text(
            "from locust import User, constant, task\n"
            "from kvss_gevent.loadtest.locust_plugin.load_users import KvssUser\n"
            "class Other(User):\n"
            "    host = 'http://somewhere.invalid'\n"
            "    wait_time = constant(0.1)\n"
            "    @task\n"
            "    def nothing(self):\n"
            "        assert self.host == 'http://somewhere.invalid'\n"
            "class Mine(KvssUser):\n"
            f"    host = '127.0.0.1:{port}'\n"
            "    wait_time = constant(0.05)\n"
            "    @task\n"
            "    def look(self):\n"
            "        self.client.get('key')\n"
        )
        done = run(
            "", "-u", "2", "-t", "1", "--kv-warmup", "0s", out=tmp_path / "out", locustfile=str(tmp_path / "mine.py")
        )
    assert done.code == 0, done.err
    assert done.results["requests"]["misses"] > 5


@pytest.mark.full
@pytest.mark.timing
def test_locusts_own_outputs_agree_with_the_report(tmp_path: Path) -> None:
    with serving() as port:
        options = ("-u", "2", "-t", "2", "--kv-rate", "500", "--kv-keys", "50", "--kv-warmup", "1500ms", "--json")
        done = run(port, *options, "--csv", str(tmp_path / "csv"), out=tmp_path / "out")
    rows: list[dict[str, Any]] = json.loads(done.out)
    assert "Verdict:" in done.err
    requests = sum(row["num_requests"] for row in rows)
    assert requests == done.results["requests"]["due"] == pytest.approx(1000, abs=1)
    length_s = max(row["last_request_timestamp"] for row in rows) - min(row["start_time"] for row in rows)
    assert length_s < 2.6
    last = (tmp_path / "csv_stats.csv").read_text().splitlines()[-1].split(",")
    header = (tmp_path / "csv_stats.csv").read_text().splitlines()[0].split(",")
    whole = dict(zip(header, last, strict=False))
    assert float(whole["Requests/s"]) == pytest.approx(500, rel=0.05)
    assert 60 < float(whole["Average Content Size"]) < 110, "four of five are reads of 100 bytes"


@pytest.mark.full
def test_autoquit_ends_the_page_when_the_run_has_ended() -> None:
    begun = time.monotonic()
    with serving() as port:
        options = ("--autostart", "--autoquit", "1", "-t", "1", "--kv-warmup", "0s", "--kv-keys", "20")
        line = [one for one in command(port, *options, "--web-port", str(free_port())) if one != "--headless"]
        done = subprocess.run(
            line, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=200, check=False
        )
    assert done.returncode == 0
    assert "Verdict:" in done.stdout
    assert time.monotonic() - begun < 30


@pytest.mark.full
def test_requirements_make_a_run_a_test_and_end_it_when_they_cannot_be_met_any_more(tmp_path: Path) -> None:
    options = ("-u", "2", "--kv-rate", "200", "--kv-keys", "20", "--kv-warmup", "200ms")
    with serving() as port:
        kept = run(port, *options, "-t", "1", "--kv-require", "max<20s, errors<1%, rate>=0.5, measured")
        missed = run(port, *options, "-t", "1", "--kv-require", "p50<1us, errors<=0", out=tmp_path)
    assert kept.code == 0, kept.out
    assert missed.code == 1
    assert "NOT required p50<1us: " in missed.out
    assert "ok  required errors<=0: 0" in missed.out
    begun = time.monotonic()
    with serving(lambda data, words: b"500 SERVER_ERROR" if words[1] == b"GET" else right(data, words)) as port:
        hopeless = run(port, *options, "-t", "60", "--kv-require", "errors<1%")
    assert hopeless.code == 1
    assert time.monotonic() - begun < 30
    assert "NOT the run was ended: errors<1% can no longer be met" in hopeless.out


@pytest.mark.full
def test_live_lines_are_printed_where_they_are_asked_for() -> None:
    with serving() as port:
        options = ("-u", "2", "-t", "4", "--kv-rate", "200", "--kv-keys", "20", "--kv-warmup", "0s")
        shown = run(port, *options, "--kv-live", "on")
    assert "answered/s" in shown.err
    lines = [line.split() for line in shown.err.splitlines() if line[:8].strip().isdigit()]
    assert len(lines) >= 2
    assert any(150 <= int(line[1]) <= 250 for line in lines)


@pytest.mark.full
def test_a_hang_in_the_middle_marks_percentiles_and_fails(tmp_path: Path) -> None:
    hung = threading.Event()
    begun = [0.0]

    def hanging(data: dict[bytes, bytes], words: list[bytes]) -> bytes:
        if words[1:2] == [b"GET"]:
            begun[0] = begun[0] or time.monotonic()
            if time.monotonic() - begun[0] > 1.5:
                hung.wait(20)
        return right(data, words)

    with serving(hanging) as port:
        options = ("-u", "2", "-t", "2", "--kv-rate", "200", "--kv-keys", "20", "--kv-warmup", "0s", "--kv-drain", "1s")
        done = run(port, *options, "--kv-mix", "1:0:0", out=tmp_path)
    hung.set()
    assert done.code == 1
    requests = done.results["requests"]
    assert requests["failed"] == 2
    assert requests["unsent"] > 10
    assert requests["unaccounted"] == 0
    assert done.results["response"]["p99_us"] > 500_000
    assert ">=" in done.out


@pytest.mark.full
def test_a_report_that_is_lost_is_no_success() -> None:
    with serving() as port, Path("/dev/full").open("w") as full:
        load = ("-H", f"127.0.0.1:{port}", "-u", "1", "-t", "1", "--kv-keys", "20", "--kv-warmup", "0s")
        command = [sys.executable, "-m", "kvss_gevent", "load", "--headless", "--only-summary", *load]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert done.returncode == 3
    assert "kvss load: standard output cannot be written: No space left on device\n  " in done.stderr
    assert "Traceback" not in done.stderr
