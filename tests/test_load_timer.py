"""The load tester's timer fires in time, not early, and costs nothing while it waits."""

import time
from math import inf

import gevent
import pytest
from gevent.event import Event

from kvss_gevent.loadtest.engine.clock import Timer, clock


def rings(*times: float) -> list[float]:
    """Return when a timer fired that was armed for each of some times from now, one after the other."""
    found: list[float] = []
    rung = Event()

    def fire() -> None:
        found.append(clock())
        rung.set()

    timer = Timer(fire)
    for when in times:
        timer.arm(clock() + when)
        assert rung.wait(5)
        rung.clear()
    timer.close()
    timer.close()
    return found


def test_it_does_not_fire_early() -> None:
    begun = clock()
    [at] = rings(0.03)
    assert at - begun >= 0.03


@pytest.mark.timing
def test_it_fires_in_time() -> None:
    begun = clock()
    [at] = rings(0.03)
    assert at - begun < 0.5


def test_a_time_that_has_passed_fires_at_once() -> None:
    assert len(rings(-1.0, 0.0, -1.0)) == 3


def test_a_timer_may_be_armed_anew_while_it_fires() -> None:
    found: list[float] = []
    ended = Event()

    def fire() -> None:
        found.append(clock())
        if len(found) == 3:
            ended.set()
        else:
            timer.arm(found[0] + 0.01 * len(found))

    timer = Timer(fire)
    timer.arm(clock())
    assert ended.wait(5)
    timer.close()
    assert found[2] - found[0] >= 0.02


def test_a_timer_that_was_disarmed_does_not_fire() -> None:
    found: list[float] = []
    timer = Timer(lambda: found.append(clock()))
    timer.arm(clock() + 0.1)
    timer.arm(inf)
    gevent.sleep(0.15)
    timer.close()
    assert found == []


def test_a_timer_that_has_fired_costs_nothing() -> None:
    timer = Timer(lambda: None)
    timer.arm(clock())
    gevent.sleep(0.02)
    used_s = time.process_time()
    gevent.sleep(0.3)
    assert time.process_time() - used_s < 0.15, "it is not looked at again and again"
    timer.close()
