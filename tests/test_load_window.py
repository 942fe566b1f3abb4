"""The measured window of a load: resets, shapes, what is under way, and what is due before it."""

import socket
import threading

import gevent
import pytest
from load_drive import Bench, bench
from load_servers import right

from kvss_gevent.loadtest.engine.clock import clock
from kvss_gevent.loadtest.engine.load_run import NO_REPLY
from kvss_gevent.loadtest.engine.request_stream import BURST


def test_a_run_that_is_closed_counts_what_was_left() -> None:
    with bench("1:0:0", rate="1000", backlog="5") as one:
        gevent.sleep(0.1)
        part = one.close()
    assert part.unsent == 5
    assert part.dropped > 50
    assert part.unaccounted == 0
    assert part.censored.total == part.unsent, "what was never sent has waited, too"


def test_what_was_counted_before_a_server_hangs_is_told_while_it_hangs() -> None:
    """The closed loop counts a burst at a time: a burst that does not end must not keep its counts to itself."""
    hung = threading.Event()
    seen = 0

    def hanging(data: dict[bytes, bytes], words: list[bytes]) -> bytes:
        nonlocal seen
        seen += 1
        if seen == 20:
            hung.wait(30)
        return right(data, words)

    with bench("1:0:0", hanging) as one:
        worker = gevent.spawn(one.work)
        with gevent.Timeout(20):
            while sum(update.tally.requests() for update in one.updates) < 19:  # they may come in two parts
                gevent.sleep(0.05)
        assert sum(update.tally.requests() for update in one.updates) == 19
        hung.set()
        worker.join(10)
        assert one.finish().requests() == BURST


def test_a_reset_begins_the_window_anew_and_leaves_its_end() -> None:
    with bench("1:0:0") as one:
        end = one.run.recorder.end
        one.work(3)
        begun = clock()
        one.run.reset(1)
        assert begun <= one.run.recorder.begin <= clock()
        one.work(2)
        part = one.finish()
    assert part.requests() == 2 * BURST
    assert one.run.recorder.end <= end
    assert one.updates[-1].reset == 1


def test_a_reset_outside_of_the_window_changes_nothing() -> None:
    with bench("1:0:0") as one:
        one.run.open_window(clock() + 60, 60)
        one.run.reset(1)
        assert one.run.recorder.begin > clock() + 50
        one.run.open_window(clock(), 60)
        one.work(2)
        one.run.end_window()
        one.run.reset(2)
        assert one.finish().requests() == 2 * BURST


def test_a_shape_goes_on_over_a_reset() -> None:
    with bench("1:0:0", shape="steps:100,3000:100ms") as one:
        gevent.sleep(0.15)
        one.run.reset(1)
        assert one.run.arrival_queue is not None
        now = clock()
        assert one.run.arrival_queue.arrivals.expected(now, now + 0.1) == pytest.approx(300)
        one.finish()


def test_a_summary_tells_what_is_under_way() -> None:
    hung = threading.Event()

    def hanging(data: dict[bytes, bytes], words: list[bytes]) -> bytes:
        hung.wait(30)
        return right(data, words)

    with bench("1:0:0", hanging) as one:
        begun = clock()
        worker = gevent.spawn(one.work)
        with gevent.Timeout(20):
            while (summary := one.run.summary())["under_way_s"] <= 0.2:
                gevent.sleep(0.05)
        took_s = clock() - begun
        hung.set()
        worker.join(10)
        one.finish()
    assert (summary["owed"], summary["concurrency"]) == (1, 1)
    assert summary["under_way_s"] <= min(summary["measured_s"], took_s)


@pytest.mark.parametrize("texts", [{}, {"depth": "5"}, {"rate": "3000"}, {"rate": "3000", "depth": "5"}], ids=str)
def test_requests_that_a_server_never_answered_fail_also_where_they_were_due_before_the_window(
    texts: dict[str, str],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        one = Bench(silent.getsockname()[1], "get=100", drain="0.1", **texts)
        working = gevent.spawn(one.work)
        gevent.sleep(0.02)
        one.updates.clear()
        one.run.measure(clock() + 0.02, 0.15, lambda: False)
        part = one.finish()
        working.kill()
    assert part.failures == {NO_REPLY: part.unanswered}
    assert 1 <= part.unanswered <= one.user.depth
    assert part.censored.total == part.unanswered + part.unsent
    assert part.due == part.unanswered + part.unsent
    assert part.unaccounted == 0
