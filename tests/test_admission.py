"""Who is let in: an address has its share and its pace, and loopback neither."""

from dataclasses import replace

import pytest

from kvss_gevent.core import address_counts
from kvss_gevent.core.shared_counters import SharedCounters
from kvss_gevent.server.accepting.admission import Admission
from kvss_gevent.server.connection import host_of
from kvss_gevent.settings.config import Config


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def admission(clock: Clock) -> Admission:
    config = Config(max_connections=100, max_per_address=5)
    return Admission(lambda: config, clock=clock)


def let_in(admission: Admission, address: str, count: int) -> str:
    """Let connections in until one is refused, or until there are as many; return the last answer."""
    return next(filter(None, (admission.let_in(address, 0) for _ in range(count))), "")


def test_an_address_has_its_share_and_others_have_theirs(admission: Admission, clock: Clock) -> None:
    assert let_in(admission, "192.0.2.1", 5) == ""
    clock.now_s += 2
    assert let_in(admission, "192.0.2.1", 1) == "192.0.2.1 has as many connections as --max-per-address allows"
    assert let_in(admission, "192.0.2.2", 5) == ""
    admission.closed("192.0.2.1")
    assert let_in(admission, "192.0.2.1", 1) == ""


def test_without_a_share_of_its_own_an_address_has_a_tenth_of_all(clock: Clock) -> None:
    config = Config(max_connections=40)
    admission = Admission(lambda: config, clock=clock)
    assert let_in(admission, "192.0.2.1", 4) == ""
    assert "--max-per-address" in let_in(admission, "192.0.2.1", 1)
    config = replace(config, max_connections=80)  # as SIGHUP does
    clock.now_s += 2
    assert let_in(admission, "192.0.2.1", 4) == ""


def test_who_comes_and_goes_too_fast_is_refused_until_the_second_is_over(admission: Admission, clock: Clock) -> None:
    for _ in range(5):
        assert let_in(admission, "192.0.2.1", 1) == ""
        admission.closed("192.0.2.1")
    assert "more connections in a second" in let_in(admission, "192.0.2.1", 1)
    assert let_in(admission, "192.0.2.2", 1) == ""
    clock.now_s += 1
    assert let_in(admission, "192.0.2.1", 1) == ""


def test_loopback_has_all_there_is(admission: Admission) -> None:
    assert let_in(admission, "", 99) == ""
    assert (
        admission.let_in("", 100)
        == "100 clients are connected, as many as --max-connections and the limit of open files allow"
    )


def test_an_address_has_one_share_of_all_workers_together(clock: Clock) -> None:
    shared = SharedCounters(3)
    workers = [Admission(lambda: Config(max_per_address=5), counts, clock) for counts in shared.addresses]
    first, second, third = workers
    assert let_in(first, "192.0.2.1", 2) == ""
    assert let_in(second, "192.0.2.1", 3) == ""
    assert [each.let_in("192.0.2.1", 0) for each in workers] == [
        "192.0.2.1 has as many connections as --max-per-address allows"
    ] * 3
    assert let_in(third, "192.0.2.2", 5) == ""
    first.closed("192.0.2.1")
    assert "more connections in a second" in third.let_in("192.0.2.1", 0)
    clock.now_s += 1
    assert let_in(third, "192.0.2.1", 1) == ""
    shared.forget_clients(1)  # it died, and three clients with it
    clock.now_s += 1
    assert let_in(third, "192.0.2.1", 3) == ""
    assert let_in(third, "192.0.2.1", 1) != ""


def test_addresses_that_came_and_went_leave_room_for_others(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address_counts, "ROWS", 1)
    admission = Admission(lambda: Config(max_per_address=2), clock=clock)
    for number in range(address_counts.WAYS * 3):
        assert let_in(admission, f"192.0.2.{number}", 1) == ""
        admission.closed(f"192.0.2.{number}")
    for number in range(address_counts.WAYS):
        assert let_in(admission, f"198.51.100.{number}", 1) == ""
    assert "too many addresses" in let_in(admission, "203.0.113.1", 1)
    admission.closed("198.51.100.3")
    assert let_in(admission, "203.0.113.1", 1) == ""
    assert "has as many" in let_in(admission, "203.0.113.1", 2)


def test_whoever_has_one_ipv6_address_has_all_of_its_network() -> None:
    assert host_of(("2001:db8:1:2::1", 5050, 0, 0)) == host_of(("2001:db8:1:2:ffff::9", 5050, 0, 0))
    assert host_of(("2001:db8:1:2::1", 5050, 0, 0)) != host_of(("2001:db8:1:3::1", 5050, 0, 0))
    assert host_of(("fe80::1%eth0", 5050, 0, 2)) == "fe80::/64"
    assert host_of(("::ffff:192.0.2.7", 5050, 0, 0)) == "192.0.2.7"
    assert [host_of(("::1", 5050, 0, 0)), host_of(("::ffff:127.0.0.1", 5050, 0, 0)), host_of("")] == ["", "", ""]
