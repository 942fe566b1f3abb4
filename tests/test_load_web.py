"""Locust's web page with the load tester in it: the form, the tab "KVSS latency", loopback only; in a real browser."""

import json
import re
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from load_browser import Browser
from load_runs import ROOT, environment
from load_servers import serving
from load_unpatched import stats  # noqa: F401  before kvss_gevent.loadtest.locust_plugin.run_phases imports it

from kvss_gevent.loadtest.engine.messages import Update
from kvss_gevent.loadtest.engine.recorder import HIT, RESPONSE, Tally
from kvss_gevent.loadtest.locust_plugin.run_phases import Coordinator
from kvss_gevent.loadtest.report.collector import Collector
from kvss_gevent.measure.launch import free_port

pytestmark = pytest.mark.server


@contextmanager
def locust_page(host: str, *more: str) -> Iterator[tuple[str, int]]:
    """Run locust with its web page on a free port; yields the page's address and the process id."""
    port = str(free_port())
    options = ["-f", "loadtest/kvss_locust.py", "-H", host, "--web-port", port, "--kv-warmup", "0s", *more]
    process = subprocess.Popen(
        [sys.executable, "-m", "locust", *options, "--kv-keys", "50"],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        ends = time.monotonic() + 15
        while time.monotonic() < ends:
            try:
                socket.create_connection(("127.0.0.1", int(port)), 1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        process.terminate()
        process.wait(15)


def ask(url: str, **form: str) -> dict[str, Any]:
    data = urllib.parse.urlencode(form).encode() if form else None
    with urllib.request.urlopen(url, data, timeout=10) as reply:
        answer: dict[str, Any] = json.load(reply)
    return answer


@pytest.mark.full
def test_a_run_from_the_page_shows_its_latencies_and_verdict_in_a_browser(tmp_path: Path) -> None:
    with serving() as port, locust_page(f"127.0.0.1:{port}") as (page, pid):
        listening = [one for one in psutil.Process(pid).net_connections() if one.status == psutil.CONN_LISTEN]
        assert {one.laddr.ip for one in listening} == {"127.0.0.1"}

        start = {"user_count": "2", "spawn_rate": "100", "host": f"127.0.0.1:{port}", "run_time": "1s"}
        refused = ask(f"{page}/swarm", **start, kv_mix="nonsense")
        assert refused["success"] is False
        assert refused["message"].startswith("--kv-mix: unknown mix 'nonsense'")
        gone = ask(f"{page}/swarm", **{**start, "host": "127.0.0.1:1"})
        assert gone["success"] is False
        assert gone["message"].startswith("no server at 127.0.0.1:1")

        with Browser(tmp_path) as browser:
            browser.open(page)
            browser.wait_for("label", *(f"Kv {option}" for option in ("Mix", "Rate", "Verify", "Shape", "Give Up")))
            browser.fill("kvMix", "0:1:0")
            browser.fill("kvRate", "300")
            browser.click("Start")
            browser.wait_for("button", "KVSS latency")
            browser.click("KVSS latency")
            running = browser.wait_for("h1, li, td", "Verdict so far: ", "the run goes on", "answered ", "PUT hit")
            assert not any(cell.startswith("Verdict: ") for cell in running)
            browser.wait_for("svg", "answered/s", "p99.9")
            browser.click("Stop")
            cells = browser.wait_for("h1, li, td", "Verdict: ", "response, good", "PUT hit", "answered ")
            browser.open(page)
            browser.wait_for("script", '"default_value": "0:1:0"')  # The form keeps what was asked for last.
    assert not any("the run goes on" in cell for cell in cells)
    [offered] = re.findall(r" of ([\d,]+)/s offered", " ".join(cells))
    assert int(offered.replace(",", "")) == pytest.approx(300, abs=15), "so is the rate"
    assert not any(cell.endswith("GET hit") for cell in cells), "the mix is the one from the form"


def shown(page: str) -> tuple[int, int]:
    """Return how many requests Locust's own table and the tab's whole window show."""
    figures = ask(f"{page}/stats/requests")
    [locusts] = [row["num_requests"] for row in figures["stats"] if row["name"] == "Aggregated"]
    return locusts, ask(f"{page}/kvss/data")["requests"]


def test_counts_from_before_a_reset_that_arrive_late_are_left_out() -> None:
    master = SimpleNamespace(resets=1, collector=Collector(), _workers=SimpleNamespace(present=("a",)))
    for reset in (0, 1, 0):
        part = Tally()
        part.histogram(RESPONSE, "GET", HIT).record(100)
        message = SimpleNamespace(node_id="a", data=Update(0, part, reset=reset).pack())
        Coordinator.on_update(master, message)  # type: ignore[arg-type]
    assert master.collector.whole.requests() == 1


def wait_until(what: Callable[[], bool]) -> None:
    ends = time.monotonic() + 20
    while not what():
        assert time.monotonic() < ends
        time.sleep(0.1)


@pytest.mark.full
@pytest.mark.parametrize("processes", [1, 2])
def test_a_reset_begins_both_statistics_anew(processes: int, tmp_path: Path) -> None:
    more = ["--kv-rate", "500", "--kv-out", str(tmp_path / "out")]
    if processes > 1:
        master = str(free_port())
        more += ["--processes", str(processes), "--master-bind-port", master, "--master-port", master]
    with serving() as port, locust_page(f"127.0.0.1:{port}", *more) as (page, _):
        if processes > 1:
            wait_until(lambda: len(ask(f"{page}/stats/requests")["workers"]) == processes)
        start = {"user_count": "4", "spawn_rate": "100", "host": f"127.0.0.1:{port}", "run_time": "12s"}
        assert ask(f"{page}/swarm", **start)["success"] is True
        wait_until(lambda: min(shown(page)) > 1500)
        time.sleep(1.5)  # Workers report to Locust every 3 s: now they have something that is not reported yet.
        urllib.request.urlopen(f"{page}/stats/reset", data=b"", timeout=10).close()
        assert shown(page)[1] < 500
        wait_until(lambda: max(shown(page)) < 1500)  # Locust's page caches its figures for 2 s.
        wait_until(lambda: ask(f"{page}/stats/requests")["state"] == "stopped")
        results = json.loads((tmp_path / "out" / "results.json").read_text())
        wait_until(lambda: shown(page) == (results["requests"]["answered"], results["response"]["count"]))
        assert results["window"]["measured_s"] < 8
        # Each process hears of the reset in its own time, and counts its share of the rate from then on.
        counted_s = [end - begin for begin, end in results["window"]["clock_s"].values()]
        assert results["requests"]["due"] == pytest.approx(500 * sum(counted_s) / processes, abs=5)
        assert results["requests"]["unaccounted"] == 0
        assert results["verdict"]["findings"][-1]["text"].startswith("the statistics were reset")
        assert results["generator"]["cpu_shares"].keys() == results["requests"]["counted_by_process"].keys()

        urllib.request.urlopen(f"{page}/stats/reset", data=b"", timeout=10).close()
        wait_until(lambda: shown(page) == (0, 0))


@pytest.mark.full
def test_a_run_that_stores_no_keys_does_not_tell_how_long_the_run_before_stored_them(tmp_path: Path) -> None:
    with serving() as port, locust_page(f"127.0.0.1:{port}", "--kv-out", str(tmp_path)) as (page, _):
        start = {"user_count": "1", "spawn_rate": "100", "host": f"127.0.0.1:{port}", "run_time": "1s"}
        load_s = []
        for preload in ("on", "off"):
            report = tmp_path / "report.html"  # the last file that is written
            report.unlink(missing_ok=True)
            assert ask(f"{page}/swarm", **start, kv_keys="5000", kv_preload=preload)["success"] is True
            wait_until(report.exists)
            wait_until(lambda: ask(f"{page}/stats/requests")["state"] == "stopped")
            load_s.append(json.loads((tmp_path / "results.json").read_text())["window"]["load_s"])
    assert load_s[0] > 0
    assert load_s[1] == 0
