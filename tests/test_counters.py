"""What /proc says of processes, beside processes that do known things."""

import itertools
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from kvss_gevent.measure.process_usage import cpu_ns, size, tree, usage

BUSY_CHILD = """
import os, sys, time
if os.fork() == 0:
    end = time.process_time() + 0.3
    while time.process_time() < end: pass
    print("done", flush=True)
time.sleep(30)
"""


def started(code: str) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def ended(process: "subprocess.Popen[str]") -> None:
    for pid in reversed(tree(process.pid)):
        os.kill(pid, 9)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        pipe.close()


def test_cpu_time_of_a_child_counts() -> None:
    process = started(BUSY_CHILD)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        used = usage(process.pid)
        assert len(tree(process.pid)) == 2
        assert used.cpu_ns >= 0.3e9
        assert used.user_ns + used.system_ns == pytest.approx(used.cpu_ns, abs=1e8)
        assert usage(process.pid).since(used).cpu_ns < 1e8
    finally:
        ended(process)


ENDED = """
import os, threading, time
def burn():
    until_s = time.thread_time() + 0.2
    while time.thread_time() < until_s: pass
one = threading.Thread(target=burn)
one.start()
one.join()
for reaped in (True, False):
    pid = os.fork()
    if pid == 0:
        burn()
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | (0 if reaped else os.WNOWAIT))
print("done", flush=True)
time.sleep(30)
"""


@pytest.mark.parametrize("read", [lambda pid: usage(pid).cpu_ns, cpu_ns])
def test_threads_that_ended_and_children_that_ended_count_reaped_or_not(read: Callable[[int], int]) -> None:
    process = started(ENDED)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        assert read(process.pid) >= 0.58e9  # three times 0.2 s; what has been reaped is known to 10 ms each
        assert read(process.pid) < 1.2e9
    finally:
        ended(process)


def test_cpu_time_is_read_in_nanoseconds() -> None:
    readings = []
    for _ in range(20):
        readings.append(cpu_ns(os.getpid()))
        sum(range(10_000))
    steps = {later - earlier for earlier, later in itertools.pairwise(readings)}
    assert min(steps) > 0
    assert statistics.median(steps) < 10_000_000, "ticks of 10 ms would show as none or one"
    assert len(steps) > 10


def test_waiting_is_a_voluntary_switch() -> None:
    before = usage(os.getpid())
    for _ in range(20):
        time.sleep(0.001)
    assert usage(os.getpid()).since(before).voluntary_switches >= 20


GROWING = """
import os, threading
print("small", flush=True)
input()
for _ in range(5): threading.Thread(target=threading.Event().wait, daemon=True).start()
pipes = [os.pipe() for _ in range(10)]
ballast = b"x" * (80 << 20)
print("large", flush=True)
input()
"""


def test_threads_descriptors_and_memory_are_counted() -> None:
    process = started(GROWING)
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        before = size(process.pid)
        process.stdin.write("\n")
        process.stdin.flush()
        process.stdout.readline()
        after = size(process.pid)
    finally:
        ended(process)
    assert after.processes == before.processes
    assert after.threads - before.threads == 5
    assert after.descriptors - before.descriptors == 20
    assert after.pss_bytes - before.pss_bytes >= (80 << 20) * 0.7  # what else is freed meanwhile


def test_a_process_that_is_not_there_is_an_error() -> None:
    process = started("pass")
    ended(process)
    for read in (usage, size):
        with pytest.raises(ProcessLookupError, match=f"there is no process {process.pid}"):
            read(process.pid)
