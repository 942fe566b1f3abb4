"""Due times are absolute and follow the integral of the rate; queues keep them, have a bound, and lose none."""

import itertools
from random import Random

import gevent
import pytest

from kvss_gevent.loadtest.engine.arrival_queue import ArrivalQueue, UserQueue
from kvss_gevent.loadtest.engine.clock import clock
from kvss_gevent.loadtest.workload.arrivals import Arrivals, constant_steps, poisson_steps
from kvss_gevent.loadtest.workload.shapes import Shape, constant, parse


def shape(text: str) -> Shape:
    found = parse(text)
    assert found is not None
    return found


def all_until(arrivals: Arrivals, now: float) -> list[float]:
    return list(arrivals.take_until(now))


def test_rate_times_time_requests_are_due_evenly() -> None:
    times = all_until(Arrivals(constant(100), constant_steps, 0.0), 10.0)
    assert len(times) == pytest.approx(1000, abs=1)
    assert times[:3] == pytest.approx([0.01, 0.02, 0.03])
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert max(gaps) - min(gaps) < 1e-9


def test_due_times_do_not_depend_on_when_they_are_taken() -> None:
    prompt, stalled = (Arrivals(constant(100), poisson_steps(Random(3)), 0.0) for _ in range(2))
    taken = [due for step in range(300) for due in all_until(prompt, step / 100)]
    assert taken == all_until(stalled, 2.99)


def test_poisson_arrivals_have_the_rate_and_the_spread() -> None:
    times = all_until(Arrivals(constant(1000), poisson_steps(Random(5)), 0.0), 50.0)
    assert len(times) == pytest.approx(50_000, rel=0.02)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    mean = sum(gaps) / len(gaps)
    spread = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert spread == pytest.approx(mean, rel=0.05), "the gaps of a Poisson process spread as wide as their mean"


SHAPES = [
    "steps:5,1000:4s",
    "ramp:0-2000:6s",
    "ramp:2000-0:3s",
    "spike:10,3000:2s",
    "ramp:0-500:2s,soak:500:1s,ramp:500-9:2s",
]


@pytest.mark.parametrize("text", SHAPES)
@pytest.mark.parametrize("step", [constant_steps, poisson_steps(Random(11))])
def test_arrivals_follow_the_integral_of_the_rate(text: str, step: object) -> None:
    """The shape becomes known late, as in a run: until then its first rate holds, and gaps of 0.2 s are under way."""
    rates = shape(text)
    arrivals = Arrivals(rates, step, 100.0)  # type: ignore[arg-type]
    all_until(arrivals, 103.0)
    arrivals.set_origin(103.5, 103.0)
    times = all_until(arrivals, 200.0)
    noise = 1.5 if step is constant_steps else 4 * rates.arrivals_until(rates.total_s) ** 0.5
    for second in range(1, int(rates.total_s) + 1):
        seen = sum(103.5 <= due < 103.5 + second for due in times)
        assert seen == pytest.approx(rates.arrivals_until(second), abs=noise)


def test_a_share_that_changes_keeps_the_whole_rate() -> None:
    """Two processes whose users are spread anew: together they offer the rate, at every time."""
    both = [Arrivals(constant(300), constant_steps, 0.0, share, share) for share in (0.5, 0.5)]
    times = [due for one in both for due in all_until(one, 2.0)]
    for one, share in zip(both, (0.9, 0.1), strict=True):
        one.set_share(share, 2.0)
    times += [due for one in both for due in all_until(one, 4.0)]
    both[1].set_share(0.0, 4.0)
    both[0].set_share(1.0, 4.0)
    times += [due for one in both for due in all_until(one, 6.0)]
    for second in range(6):
        assert sum(second <= due < second + 1 for due in times) == pytest.approx(300, abs=3)


def queue(rate: float = 1000, bound: int = 10**9, shared: bool = False, rng: Random | None = None) -> ArrivalQueue:
    step = poisson_steps(rng) if rng else constant_steps
    return ArrivalQueue(Arrivals(constant(rate), step, clock()), bound, shared, rng)


@pytest.mark.parametrize("shared", [False, True])
def test_every_request_that_is_due_is_handed_out_once(shared: bool) -> None:
    one = queue(2000, shared=shared)
    begin = clock()
    one.set_window(begin, begin + 0.5)
    taken: list[float] = []

    def user(own: UserQueue) -> None:
        while due := one.take(own):
            assert clock() >= due
            taken.append(due)

    users = [gevent.spawn(user, one.join()) for _ in range(5)]
    assert len(gevent.joinall(users, timeout=5)) == 5
    one.close()
    assert len(taken) == len(set(taken))
    assert one.due == pytest.approx(1000, abs=2)
    assert sum(begin <= due for due in taken) == one.due


@pytest.mark.timing
def test_a_shared_queue_asks_one_connection_where_one_is_enough() -> None:
    one = queue(200, shared=True)
    begin = clock()
    one.set_window(begin, begin + 0.3)
    counts = [0] * 5

    def user(number: int) -> None:
        own = one.join()
        while one.take(own):
            own.connected = True
            counts[number] += 1

    gevent.joinall([gevent.spawn(user, number) for number in range(5)], timeout=5)
    one.close()
    assert sorted(counts)[:4] == [0, 0, 0, 0], "who is connected and free is asked before another connects"


def test_beyond_the_bound_requests_are_dropped_and_every_one_is_counted() -> None:
    one = queue(100_000, bound=50)
    one.join()
    begin = clock()
    one.set_window(begin, begin + 0.1)
    gevent.sleep(0.15)
    assert one.advance(clock()) == 50
    assert one.due == pytest.approx(10_000, abs=2)
    assert one.dropped > 1000
    waiting = sum(begin <= due for due in one.waiting())
    assert one.due - one.dropped - waiting == 0
    one.close()


def test_what_waits_for_a_user_that_ends_is_handed_to_the_others() -> None:
    one = queue(1000)
    own, other = one.join(), one.join()
    gevent.sleep(0.05)
    backlog = one.advance(clock())
    one.leave(own)
    assert len(other.due) == one.backlog() >= backlog
    one.leave(other)
    assert one.backlog() >= backlog, "also where nobody is left"
    assert len(one.join().due) >= backlog
    one.close()


def test_a_user_that_is_killed_while_it_waits_takes_nothing_with_it() -> None:
    one = queue(100)
    begin = clock()
    one.set_window(begin, begin + 0.3)
    taken: list[float] = []

    def user() -> None:
        own = one.join()
        try:
            while due := one.take(own):
                taken.append(due)
        finally:
            one.leave(own)

    users = [gevent.spawn(user) for _ in range(3)]
    gevent.sleep(0.1)
    users[0].kill()
    gevent.joinall(users, timeout=5)
    one.close()
    assert sum(begin <= due for due in taken) == one.due == pytest.approx(30, abs=1)
