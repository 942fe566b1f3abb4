"""Masters and workers of the load tester: strangers, latecomers, and what becomes of a rate and of figures."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from load_runs import ROOT, environment, run
from load_servers import right, serving
from serving import wait_until

from kvss_gevent.measure.launch import free_port

pytestmark = pytest.mark.server
Locust = subprocess.Popen[str]


@contextmanager
def locust(*options: str) -> Iterator[Locust]:
    """Run locust with the users of the checkout until the block ends."""
    line = [sys.executable, "-m", "locust", "-f", "loadtest/kvss_locust.py", *options]
    pipe = subprocess.PIPE
    process = subprocess.Popen(line, cwd=ROOT, env=environment(), stdout=pipe, stderr=pipe, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(process: Locust, words: str) -> str:
    """Read its log until a line holds some words."""
    assert process.stderr is not None
    while words not in (line := process.stderr.readline()):
        assert line, "it has ended"
    return line


@pytest.mark.full
def test_a_stranger_and_a_latecomer_are_refused_in_one_line_at_both_ends(tmp_path: Path) -> None:
    master_port = str(free_port())
    ports = ("--master-bind-port", master_port, "--master-port", master_port)
    with serving() as port:
        load = ("-H", f"127.0.0.1:{port}", "-u", "4", "-r", "100", "-t", "6", "--kv-rate", "400", "--kv-keys", "500")
        options = ("--headless", "--processes", "2", *ports, *load, "--kv-out", str(tmp_path))
        with locust(*options) as master:
            wait_for(master, "the measured window")
            # The worker of another command line, as one that a second run leaves to the first one's port.
            with locust("--worker", "--master-port", master_port) as stranger:
                _, said = stranger.communicate(timeout=20)
            out, heard = master.communicate(timeout=30)
    results = json.loads((tmp_path / "results.json").read_text())
    assert stranger.returncode == 1
    [line] = [line for line in said.splitlines() if line.startswith("kvss load:")]
    assert line == f"kvss load: the master at 127.0.0.1:{master_port} refused this worker: it belongs to another run"
    assert heard.count("was refused") == 1
    assert master.returncode == 0, "its writes are in no figures, and spoil none"
    assert results["failures"] == {}
    assert results["requests"]["offered_per_s"] == pytest.approx(400)
    assert len(results["requests"]["counted_by_process"]) == 2
    assert "NOT 1 of" not in out


@pytest.mark.full
def test_a_worker_whose_master_is_killed_stops_loading_the_server(tmp_path: Path) -> None:
    seen = [0.0]

    def noting(data: dict[bytes, bytes], words: list[bytes]) -> bytes:
        seen[0] = time.monotonic()
        return right(data, words)

    master_port = str(free_port())
    with serving(noting) as port:
        load = ("-H", f"127.0.0.1:{port}", "-u", "2", "-r", "100", "-t", "60", "--kv-rate", "50", "--kv-keys", "20")
        ports = ("--master-bind-port", master_port, "--master-port", master_port)
        with locust("--headless", "--processes", "1", *ports, *load) as master:
            wait_for(master, "the measured window")
            [worker] = psutil.Process(master.pid).children()
            master.kill()
            killed = time.monotonic()
            worker.wait(20)
        assert seen[0] - killed < 10


@pytest.mark.full
def test_workers_end_with_their_command_also_before_they_have_found_a_master(tmp_path: Path) -> None:
    slow = tmp_path / "slow_workers.py"
    slow.write_text(
        "import os, time\n"
        "os.register_at_fork(after_in_child=lambda: (print('worker', os.getpid(), flush=True), time.sleep(3)))\n"
        "from kvss_locust import KvssMix\n"
    )
    port = str(free_port())  # nobody listens there, so the command ends at once
    nobody = str(free_port())
    ports = ("--master-bind-port", nobody, "--master-port", nobody)
    line = [sys.executable, "-m", "locust", "-f", str(slow), "--headless", "--processes", "2", *ports]
    heard = tmp_path / "heard.txt"
    with heard.open("w") as out:
        env = environment() | {"PYTHONPATH": f"{ROOT}:{ROOT / 'loadtest'}"}
        code = subprocess.call([*line, "-H", f"127.0.0.1:{port}"], stdout=out, stderr=out, env=env, timeout=30)
    workers = [int(line.split()[1]) for line in heard.read_text().splitlines() if line.startswith("worker ")]
    assert code == 3
    assert len(workers) == 2
    wait_until(lambda: not any(map(psutil.pid_exists, workers)), 10)
    assert heard.read_text().count("kvss load: the command of this worker has ended: the worker ends, too\n") == 2


@pytest.mark.full
def test_a_worker_that_was_started_by_itself_stays_when_the_shell_that_started_it_ends(tmp_path: Path) -> None:
    port, said = str(free_port()), tmp_path / "said.txt"
    with serving() as server:
        bound = ("--master-bind-port", port, "-H", f"127.0.0.1:{server}", "--kv-out", str(tmp_path))
        load = ("-u", "2", "-r", "100", "-t", "5", "--kv-rate", "50", "--kv-keys", "20")
        with locust("--master", "--headless", "--expect-workers", "1", *bound, *load) as master:
            worker = f"{sys.executable} -m locust -f loadtest/kvss_locust.py --worker --master-port {port}"
            subprocess.run(["sh", "-c", f"{worker} 2>{said} & sleep 4"], cwd=ROOT, env=environment(), check=True)
            _, heard = master.communicate(timeout=40)
    assert master.returncode == 0, heard
    assert "kvss load:" not in said.read_text()
    assert json.loads((tmp_path / "results.json").read_text())["requests"]["answered"] == 250


@pytest.mark.full
@pytest.mark.timing
def test_a_generator_that_stood_still_says_so_and_does_not_blame_the_server(tmp_path: Path) -> None:
    results = []
    for number, rate in enumerate((("--kv-rate", "1000"), ())):
        out = tmp_path / str(number)
        with serving() as port:
            options = ("-u", "2", "-t", "3", "--kv-keys", "50", "--kv-warmup", "200ms", *rate, "--kv-out", str(out))
            with locust("--headless", "-r", "100", "-H", f"127.0.0.1:{port}", *options) as process:
                wait_for(process, "the measured window")
                time.sleep(1.2)
                os.kill(process.pid, signal.SIGSTOP)
                time.sleep(0.5)
                os.kill(process.pid, signal.SIGCONT)
                said, _ = process.communicate(timeout=30)
        assert "NOT the generator stood still for " in said
        results.append(json.loads((out / "results.json").read_text()))
    for one in results:
        assert not one["verdict"]["trusted"]
        assert 0.45 < one["generator"]["stood_still_s"]["local"] < 2.5
        assert one["lag"]["max_us"] > 400_000
    lag, response = results[0]["lag"], results[0]["response"]
    assert lag["p99_us"] > 0.8 * response["p99_us"], "what these requests waited for was the generator"


@pytest.mark.full
def test_a_rate_stays_what_it_is_when_users_come_and_go(tmp_path: Path) -> None:
    shape = tmp_path / "shape.py"
    shape.write_text(
        "from locust import LoadTestShape\n"
        "from kvss_locust import KvssMix\n"
        "class Change(LoadTestShape):\n"
        "    def tick(self):\n"
        "        s = self.get_run_time()\n"
        "        return None if s > 5 else (4 if s < 1.5 or s > 4 else 8, 100)\n"
    )
    env = {"PYTHONPATH": f"{ROOT}:{ROOT / 'loadtest'}"}
    master_port = str(free_port())
    ports = ("--processes", "2", "--master-bind-port", master_port, "--master-port", master_port)
    for number, processes in enumerate(((), ports)):
        with serving() as port:
            options = ("--kv-rate", "300", "--kv-warmup", "0s", "--kv-keys", "50", *processes)
            done = run(port, *options, out=tmp_path / str(number), env=env, locustfile=str(shape))
        assert done.code == 0, done.err
        requests, window = done.results["requests"], done.results["window"]
        assert window["measured_s"] > 3
        assert requests["due"] == pytest.approx(300 * window["measured_s"], rel=0.01, abs=3)
        assert requests["unaccounted"] == 0
        assert not any("Little" in one["text"] for one in done.results["verdict"]["findings"])
