"""loadtest/timer.py: greenlets wake in order, not before their time, and a killed one leaves nothing behind."""

import time

import gevent
import pytest

from kvss_gevent.loadtest.engine.clock import Alarm, clock


@pytest.fixture
def alarm() -> Alarm:
    # The loop's clock stands still while no greenlet runs: after other tests a timeout would be over at once.
    gevent.get_hub().loop.update_now()
    return Alarm()


def test_greenlets_wake_in_the_order_of_their_times_and_not_early(alarm: Alarm) -> None:
    begun = clock()
    woken: list[tuple[float, float]] = []

    def sleeper(delay_s: float) -> None:
        alarm.sleep_until(begun + delay_s)
        woken.append((delay_s, clock() - begun))

    gevent.joinall([gevent.spawn(sleeper, delay) for delay in (0.03, 0.01, 0.02, 0.01)], timeout=5)
    assert [delay for delay, _ in woken] == [0.01, 0.01, 0.02, 0.03]
    assert all(at >= delay for delay, at in woken)
    alarm.close()


def test_a_time_that_has_passed_wakes_at_once(alarm: Alarm) -> None:
    with gevent.Timeout(2):
        alarm.sleep_until(clock() - 1)
    alarm.close()


def test_a_killed_sleeper_is_not_woken_and_does_not_hold_up_others(alarm: Alarm) -> None:
    now = clock()
    woken: list[str] = []

    def sleeper(name: str, when: float) -> None:
        alarm.sleep_until(when)
        woken.append(name)

    first, second = gevent.spawn(sleeper, "first", now + 0.02), gevent.spawn(sleeper, "second", now + 0.03)
    gevent.sleep(0)
    first.kill()
    second.join(5)
    assert woken == ["second"]
    alarm.close()


def test_many_greenlets_share_one_timer(alarm: Alarm) -> None:
    begun = clock()
    sleepers = [gevent.spawn(alarm.sleep_until, begun + i / 10_000) for i in range(300)]
    assert len(gevent.joinall(sleepers, timeout=5)) == 300
    alarm.close()


def test_a_sleeper_that_gave_up_is_left_alone_afterwards(alarm: Alarm) -> None:
    begun = clock()

    def impatient() -> float:
        with gevent.Timeout(0.005, False):
            alarm.sleep_until(begun + 0.03)
        gevent.sleep(0.1)
        return clock() - begun

    assert gevent.spawn(impatient).get(timeout=5) >= 0.1
    alarm.close()


def test_waiting_costs_nothing(alarm: Alarm) -> None:
    alarm.sleep_until(clock() + 0.01)
    used_s = time.process_time()
    alarm.sleep_until(clock() + 0.3)
    gevent.sleep(0.2)
    assert time.process_time() - used_s < 0.2, "the timer that has fired is not looked at again and again"
    alarm.close()
