"""The counters that worker processes share: other processes see them, and who is freer is told by them."""

import subprocess
import sys
import time

from kvss_gevent.core.shared_counters import BEAT_S, SharedCounters

FORK = """
import os
from kvss_gevent.core.shared_counters import SharedCounters
shared = SharedCounters(3)
if os.fork() == 0:
    shared.counters[1].puts += 5
    shared.counters[1].connections = 2
    shared.counters[1].beat()
    shared.addresses[1].opened("192.0.2.1", 7)
    os._exit(0)
os.wait()
print([(each.puts, each.connections, each.seen_s > 0) for each in shared.counters])
print([each.totals("192.0.2.1", 7) for each in shared.addresses])
"""


def test_another_process_sees_what_is_counted() -> None:
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "[(0, 0, False), (5, 2, True), (0, 0, False)]\n[(1, 1), (1, 1), (1, 1)]\n"


def test_uptime_is_the_servers() -> None:
    shared = SharedCounters(1)
    shared.counters[0].started_s -= 61.5
    assert shared.counters[0].uptime_s() == 61


def test_someone_is_freer_only_with_clearly_fewer_clients_and_signs_of_life() -> None:
    shared = SharedCounters(2)
    ours, theirs = shared.counters
    ours.connections, theirs.connections = 3, 1
    assert not shared.someone_is_freer(0)  # never heard of
    theirs.beat()
    assert shared.someone_is_freer(0)
    assert not shared.someone_is_freer(1)
    for ours.connections, theirs.connections in ((3, 3), (3, 2), (80, 70)):
        assert not shared.someone_is_freer(0)  # the next one to come and go may turn it round
    theirs.connections = 0
    theirs.seen_s = time.monotonic() - 10 * BEAT_S
    assert not shared.someone_is_freer(0)  # stopped, or dead
