"""The supervisor of worker processes with short times: when workers are restarted, and when they are killed."""

import json
import re
import subprocess
import sys
import time

import pytest

from kvss_gevent.server.supervisor import RestartTimes

SCRIPT = """
import json, logging, os, signal, socket, struct, sys, time
from kvss_gevent.server.supervisor import RestartTimes, Supervisor

lives, times, drain_timeout_s = json.loads(sys.argv[1])
logging.basicConfig(stream=sys.stderr, format="%(message)s")

def work(worker):
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
    logging.warning("the queue has room for %d clients", struct.unpack("28xI", info)[0])  # tcpi_sacked
    listener.listen(8)  # as a worker does in a storm
    worker.ready()
    with open(sys.argv[2], "a") as file:
        file.write("x")
    number = os.path.getsize(sys.argv[2]) - 1
    if number == len(lives):  # the last life does not end by itself, and not by SIGTERM either
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.kill(os.getppid(), signal.SIGTERM)
        time.sleep(30)
    while not os.path.exists(heard):  # a first worker that ends before its parent has heard of it ends the whole
        time.sleep(0.01)
    time.sleep(lives[number])
    return 7

listener = socket.create_server(("127.0.0.1", 0))
heard = sys.argv[2] + "-heard"
supervisor = Supervisor(1, work, listener, drain_timeout_s, RestartTimes(**times))
sys.exit(supervisor.run(lambda: open(heard, "w").close(), lambda: None))
"""


def run(
    tmp_path, lives: list[float], drain_timeout_s: float = 0.0, script: str = SCRIPT, **times: float
) -> tuple[int, list[str]]:
    """Run one worker that ends after each of these times, and is then told to end and does not; return code and log."""
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps([lives, times, drain_timeout_s]), str(tmp_path / "lives")],
        capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    return done.returncode, done.stderr.splitlines()


def delays(log: list[str]) -> list[str]:
    return [found[1] for line in log if (found := re.search(r"it restarts in (\S+) s", line))]


def test_the_delay_before_a_restart_doubles_up_to_the_longest(tmp_path) -> None:
    times = {"first_delay_s": 0.01, "longest_delay_s": 0.05, "kill_grace_s": 0.1}
    _, log = run(tmp_path, [0, 0, 0, 0, 0], **times)
    assert delays(log) == ["0.01", "0.02", "0.04", "0.05", "0.05"]


@pytest.mark.timing
def test_a_worker_that_ran_long_enough_restarts_after_the_first_delay_again(tmp_path) -> None:
    times = {"first_delay_s": 0.01, "longest_delay_s": 5.0, "reset_after_s": 0.6, "kill_grace_s": 0.1}
    _, log = run(tmp_path, [0, 0, 0.7, 0], **times)
    assert delays(log) == ["0.01", "0.02", "0.01", "0.02"]


def test_a_worker_that_died_in_a_storm_leaves_no_short_queue_behind(tmp_path) -> None:
    _, log = run(tmp_path, [0], first_delay_s=0.01, kill_grace_s=0.1)
    rooms = [int(found[1]) for line in log if (found := re.search(r"room for (\d+) clients", line))]
    assert len(rooms) == 2
    assert min(rooms) > 8


@pytest.mark.timing
def test_a_worker_that_does_not_end_is_killed_once_drain_and_grace_are_over(tmp_path) -> None:
    began_s = time.monotonic()
    code, _ = run(tmp_path, [], drain_timeout_s=0.5, kill_grace_s=0.5)
    assert code == 0
    assert 1.0 <= time.monotonic() - began_s < 6


def test_a_worker_that_never_accepts_ends_the_start_with_a_reason(tmp_path) -> None:
    script = SCRIPT.replace("worker.ready()", "time.sleep(300)")
    code, log = run(tmp_path, [], script=script, ready_s=0.2)
    assert code == 1, "a traceback here, two lines and exit code 3 in `kvss serve`"
    assert log[-1].endswith("Fail: 1 of the workers did not accept clients within 0.2 s")


def test_the_usual_times_are_those_that_the_document_of_workers_promises() -> None:
    assert RestartTimes() == RestartTimes(120, first_delay_s=0.1, longest_delay_s=5, reset_after_s=10, kill_grace_s=3)
