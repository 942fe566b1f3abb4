"""What /proc says of processes, beside processes that do known things."""

import os
import subprocess
import sys
import threading
import time

import pytest

from kvss_gevent.measure.process_usage import size, tree, usage

IDLE = "import time; time.sleep(30)"
BUSY_CHILD = """
import os, sys, time
if os.fork() == 0:
    end = time.process_time() + 0.3
    while time.process_time() < end: pass
    print("done", flush=True)
time.sleep(30)
"""


def started(code: str) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def ended(process: "subprocess.Popen[str]") -> None:
    for pid in reversed(tree(process.pid)):
        os.kill(pid, 9)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_cpu_time_of_a_child_counts() -> None:
    process = started(BUSY_CHILD)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        used = usage(process.pid)
        assert len(tree(process.pid)) == 2
        assert used.cpu_s >= 0.3
        assert used.user_s + used.system_s == pytest.approx(used.cpu_s, abs=0.1)
        assert usage(process.pid).since(used).cpu_s < 0.1
    finally:
        ended(process)


def test_waiting_is_a_voluntary_switch() -> None:
    before = usage(os.getpid())
    for _ in range(20):
        time.sleep(0.001)
    assert usage(os.getpid()).since(before).voluntary_switches >= 20


def test_threads_descriptors_and_memory_are_counted() -> None:
    stop = threading.Event()
    before = size(os.getpid())
    threads = [threading.Thread(target=stop.wait) for _ in range(5)]
    for thread in threads:
        thread.start()
    pipes = [os.pipe() for _ in range(10)]
    ballast = b"x" * (80 << 20)
    after = size(os.getpid())
    stop.set()
    for ends in pipes:
        for end in ends:
            os.close(end)
    assert after.processes == before.processes
    assert after.threads - before.threads == 5
    assert after.descriptors - before.descriptors == 20
    assert after.pss_bytes - before.pss_bytes >= len(ballast) * 0.7  # what else is freed meanwhile


def test_a_process_that_is_not_there_is_an_error() -> None:
    process = started("pass")
    ended(process)
    for read in (usage, size):
        with pytest.raises(ProcessLookupError, match=f"there is no process {process.pid}"):
            read(process.pid)
