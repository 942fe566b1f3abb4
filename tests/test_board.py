"""The counters that worker processes share: other processes see them, and who is freer is told by them."""

import os
import time

from kvss_gevent.board import BEAT_S, Board


def test_another_process_sees_what_is_counted() -> None:
    board = Board(3)
    pid = os.fork()
    if pid == 0:
        board.counters[1].puts += 5
        board.counters[1].connections = 2
        board.counters[1].beat()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert [counters.puts for counters in board.counters] == [0, 5, 0]
    assert board.counters[1].connections == 2
    assert board.counters[1].seen_s > 0
    assert board.counters[0].seen_s == 0


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
