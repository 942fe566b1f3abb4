"""Locust's web page with the load tester in it: the form, the tab "KVSS latency", loopback only; in a real browser."""

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from load_runs import ROOT, environment
from load_servers import serving

pytestmark = pytest.mark.server


@contextmanager
def locust_page(host: str) -> Iterator[tuple[str, int]]:
    """Run locust with its web page on a free port; yields the page's address and the process id."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    options = ["-f", "loadtest/kvss_locust.py", "-H", host, "--web-port", str(port), "--kv-warmup", "0s"]
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
                socket.create_connection(("127.0.0.1", port), 1).close()
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


def browse(url: str, profile: Path) -> str:
    """Return the page as a browser has built it, after its scripts have run."""
    chromium = shutil.which("chromium")
    assert chromium is not None, "this test needs a browser: apt-get install chromium"
    quiet = ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", *quiet, f"--user-data-dir={profile}"]
    command += ["--virtual-time-budget=5000", "--dump-dom", url]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout


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

        assert "kv_mix" in browse(page, tmp_path / "form"), "the options are in the form"

        assert ask(f"{page}/swarm", **start, kv_mix="0:1:0", kv_rate="300")["success"] is True
        ends = time.monotonic() + 15
        while ask(f"{page}/stats/requests")["state"] != "stopped":
            assert time.monotonic() < ends
            time.sleep(0.2)
        seen = browse(f"{page}/?tab=kvss-latency", tmp_path / "tab")
    cells = [cell.partition("<")[0] for cell in seen.split(">")]
    assert "KVSS latency" in cells
    assert any(cell.endswith("response, whole window") for cell in cells)
    assert any(cell.endswith("PUT hit") for cell in cells)
    assert not any(cell.endswith("GET hit") for cell in cells), "the mix is the one from the form"
    assert any("Verdict: " in cell for cell in cells)
    assert any("/s of 300/s offered" in cell for cell in cells), "so is the rate"
