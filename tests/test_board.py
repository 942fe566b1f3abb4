"""The counters that worker processes share: other processes see them, and who is freer is told by them."""

import subprocess
import sys
import time

from kvss_gevent.core.shared_counters import BEAT_S, Board

FORK = """
import os
from kvss_gevent.core.shared_counters import Board
board = Board(3)
if os.fork() == 0:
    board.counters[1].puts += 5
    board.counters[1].connections = 2
    board.counters[1].beat()
    os._exit(0)
os.wait()
print([(each.puts, each.connections, each.seen_s > 0) for each in board.counters])
"""


def test_another_process_sees_what_is_counted() -> None:
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "[(0, 0, False), (5, 2, True), (0, 0, False)]\n"


def test_uptime_is_the_servers() -> None:
    board = Board(1)
    board.counters[0].started_s -= 61.5
    assert board.counters[0].uptime_s() == 61


def test_someone_is_freer_only_with_fewer_clients_and_signs_of_life() -> None:
    board = Board(2)
    ours, theirs = board.counters
    ours.connections, theirs.connections = 3, 2
    assert not board.someone_is_freer(0)  # never heard of
    theirs.beat()
    assert board.someone_is_freer(0)
    assert not board.someone_is_freer(1)
    theirs.connections = 3
    assert not board.someone_is_freer(0)
    theirs.connections = 0
    theirs.seen_s = time.monotonic() - 10 * BEAT_S
    assert not board.someone_is_freer(0)  # stopped, or dead
