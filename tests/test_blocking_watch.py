"""--watch-blocking: a stack in the log while the loop is held, and none while it waits or turns."""

import sys
import time
from dataclasses import dataclass
from types import FrameType

import gevent
import pytest
from serving import serving, wait_until

from kvss_gevent.observe.blocking_watch import BlockingWatch


@dataclass
class Loop:
    iteration: int = 1


@dataclass
class Watch:
    """A watch for holds of 100 ms on a logical clock."""

    now_s: float = 50.0

    def __post_init__(self) -> None:
        self.loop = Loop()
        self.watch = BlockingWatch(100, self.loop, lambda: self.now_s)

    def look(self, after_s: float, frame: FrameType | None) -> None:
        self.now_s += after_s
        self.watch.look(lambda: frame)


def guilty_function() -> FrameType:
    return sys._getframe()


def test_a_hold_is_told_once_with_its_stack(caplog: pytest.LogCaptureFixture) -> None:
    watch = Watch()
    for _ in range(20):
        watch.look(0.04, guilty_function())
    (line,) = caplog.messages
    assert line.startswith("the loop is held for 120 ms so far, by guilty_function (tests/test_blocking_watch.py:")
    assert " < test_a_hold_is_told_once_with_its_stack (" in line
    watch.loop.iteration += 1
    for _ in range(20):
        watch.look(0.04, guilty_function())
    assert len(caplog.messages) == 1 + (watch.now_s - 50 > 1.1)


def test_a_loop_that_turns_or_waits_for_events_is_not_held(caplog: pytest.LogCaptureFixture) -> None:
    watch = Watch()
    for _ in range(20):
        watch.loop.iteration += 1
        watch.look(0.09, guilty_function())
    hub_frame: list[FrameType] = []

    def see() -> None:
        frame: FrameType | None = gevent.get_hub().gr_frame
        assert frame
        hub_frame.append(frame)

    gevent.spawn(see).join()
    for _ in range(20):
        watch.look(0.09, hub_frame[0])
    assert caplog.messages == []


def test_the_thread_sees_what_holds_the_loop_and_that_a_waiting_loop_is_not_held(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def is_seen() -> bool:
        gevent.sleep(0.001)  # the loop turns
        time.sleep(0.05)
        return any("<locals>.is_seen (tests/test_blocking_watch.py:" in line for line in caplog.messages)

    watch = BlockingWatch(20, gevent.get_hub().loop)
    watch.start()
    gevent.sleep(0.1)
    wait_until(is_seen)
    watch.stop()
    # A busy machine may stop this test anywhere, and then the loop is held there.
    assert not any("so far, by Hub.run (" in line for line in caplog.messages)


@pytest.mark.server
def test_a_server_logs_what_holds_it_while_it_is_held() -> None:
    with serving("--lab", "--watch-blocking", "50") as server:
        # A machine that is busy may stop the whole server meanwhile, the thread that watches as well.
        wait_until(lambda: server.ask(b"KV/1.0 BURN 250\n") == b"200 OK\n" and "the loop is held" in server.logged())
        assert "burn (core/lab_commands.py:" in server.logged()
