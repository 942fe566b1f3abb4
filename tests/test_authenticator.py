"""Guesses of passwords: how many are checked, and that those nobody waits for any more hold nobody up."""

import heapq
import os
import sys
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import gevent
import pytest
from gevent.event import Event

from kvss_gevent.core.user_file import Role, User, Users
from kvss_gevent.server.security import authenticator
from kvss_gevent.server.security.authenticator import Authenticator

ALICE = User("alice", Role.WRITE, "")
CROWD = 200


class CountedUsers(Users):
    """One user whose password is `right`; checking costs nothing and is counted."""

    def __init__(self) -> None:
        super().__init__({ALICE.name: ALICE})
        self.checked = 0
        self.right = 0

    def authenticate(self, name: bytes, password: bytes) -> User | None:
        self.checked += 1
        self.right += password == b"right"
        return ALICE if password == b"right" else None


@pytest.fixture
def users() -> CountedUsers:
    return CountedUsers()


class LogicalClock:
    """A clock that stands still while greenlets run, and goes on to the next end of a sleep when all of them wait."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._sleepers: list[tuple[float, int, Event]] = []
        self._number = 0

    def sleep(self, seconds: float) -> None:
        self._number += 1
        over = Event()
        heapq.heappush(self._sleepers, (self.now_s + seconds, self._number, over))
        over.wait()

    def go_on(self) -> None:
        """Let all sleeps end, in order."""
        gevent.idle()
        while self._sleepers:
            self.now_s, _, over = heapq.heappop(self._sleepers)
            over.set()
            gevent.idle()


class NoThread:
    """Calls at once, so that only the order of guesses is left to chance."""

    def __init__(self, size: int) -> None:
        assert size == 1

    def apply(self, call: Callable[..., object], arguments: tuple[object, ...]) -> object:
        gevent.sleep(0)
        return call(*arguments)

    def kill(self) -> None:
        pass


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> LogicalClock:
    one = LogicalClock()
    monkeypatch.setattr(authenticator, "time", SimpleNamespace(monotonic=lambda: one.now_s))
    monkeypatch.setattr(authenticator, "Event", lambda: SimpleNamespace(wait=one.sleep, is_set=lambda: False))
    return one


@pytest.fixture
def checking(users: CountedUsers, clock: LogicalClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Authenticator]:
    monkeypatch.setattr(authenticator, "ThreadPool", NoThread)
    one = Authenticator(users)
    yield one
    one.close()


def guesses(of: Authenticator, count: int, password: bytes = b"wrong") -> "list[gevent.Greenlet[..., User | None]]":
    return [gevent.spawn(of.authenticate, "loopback", b"alice", password) for _ in range(count)]


def test_a_flood_of_guesses_leaves_nothing_behind_that_a_login_must_wait_for(
    checking: Authenticator, clock: LogicalClock, users: CountedUsers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authenticator, "LONGEST_WAIT_S", 0.5)
    monkeypatch.setattr(authenticator, "FIRST_DELAY_S", 0.0)
    crowd = guesses(checking, CROWD)
    clock.go_on()
    assert [guess.value for guess in crowd if guess.ready()] == [None] * CROWD
    assert users.checked <= 7  # of one address, 10 in a second
    (login,) = guesses(checking, 1, b"right")
    clock.go_on()
    assert login.value is ALICE
    assert clock.now_s < CROWD / authenticator.GUESSES_PER_S / 2


def test_several_workers_together_check_no_more_guesses_than_one(
    clock: LogicalClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authenticator, "ThreadPool", NoThread)
    monkeypatch.setattr(authenticator, "FIRST_DELAY_S", 0.0)
    checked = {}
    for workers in (1, 4):
        users = CountedUsers()
        for _ in range(workers):
            guesses(Authenticator(users, workers), CROWD)
        clock.go_on()
        checked[workers] = users.checked
    assert checked[1] == authenticator.LONGEST_WAIT_S * authenticator.GUESSES_PER_S + 1
    assert checked[4] == checked[1] + 3  # the first guess of each worker is checked at once


def test_right_passwords_are_checked_as_fast_as_the_thread_can(checking: Authenticator, clock: LogicalClock) -> None:
    crowd = guesses(checking, CROWD, b"right")
    clock.go_on()
    assert [guess.value for guess in crowd] == [ALICE] * CROWD
    assert clock.now_s == 0


def test_whoever_has_one_password_guesses_others_no_faster(
    checking: Authenticator, clock: LogicalClock, users: CountedUsers
) -> None:
    for _ in range(CROWD):
        guesses(checking, 1)
        guesses(checking, 3, b"right")
    clock.go_on()
    wrong = users.checked - users.right
    assert 3 < wrong <= authenticator.LONGEST_WAIT_S * authenticator.GUESSES_PER_S + 1


def test_a_client_that_logs_in_again_and_again_lets_others_log_in_between(
    checking: Authenticator, users: CountedUsers
) -> None:
    def again_and_again() -> None:
        while not other.ready() and users.checked < CROWD:
            checking.authenticate("192.0.2.1", b"alice", b"right")

    client = gevent.spawn(again_and_again)
    other = gevent.spawn(checking.authenticate, "192.0.2.2", b"alice", b"right")
    gevent.joinall([client, other], timeout=10, raise_error=True)
    assert users.checked < 5


def test_a_user_that_is_removed_during_the_check_is_refused(
    checking: Authenticator, users: CountedUsers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def authenticate(*_: object) -> User:
        checking.users = Users({})
        return ALICE

    monkeypatch.setattr(users, "authenticate", authenticate)
    assert checking.authenticate("loopback", b"alice", b"right") is None


def test_a_guess_that_waited_too_long_for_the_thread_is_not_checked(
    checking: Authenticator, clock: LogicalClock, users: CountedUsers
) -> None:
    with checking._turn:
        late = gevent.spawn(checking.authenticate, "192.0.2.1", b"alice", b"right")
        gevent.idle()
        clock.now_s += authenticator.LONGEST_WAIT_S + 0.1
    assert late.get(timeout=10) is None
    assert users.checked == 0
    assert checking.authenticate("192.0.2.2", b"alice", b"right") is ALICE


def test_a_server_that_ends_answers_every_guess_that_is_not_begun(
    users: CountedUsers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authenticator, "ThreadPool", NoThread)
    monkeypatch.setattr(authenticator, "LONGEST_WAIT_S", 600.0)
    of = Authenticator(users, workers=1000)  # the second guess of an address is checked after 100 s, the ninth never
    with of._turn:
        at_the_thread = gevent.spawn(of.authenticate, "192.0.2.1", b"alice", b"right")
        crowd = guesses(of, 9, b"right")
        gevent.idle()
        assert not any(guess.ready() for guess in crowd)
        of.drain()
    late = guesses(of, 2, b"right")
    assert [guess.get(timeout=20) for guess in (at_the_thread, *crowd, *late)] == [None] * 12
    assert users.checked == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a priority for each thread")
def test_checking_gives_way_to_the_event_loop() -> None:
    class Watched(CountedUsers):
        def authenticate(self, name: bytes, password: bytes) -> User | None:
            self.nice = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
            return super().authenticate(name, password)

    users, before = Watched(), os.getpriority(os.PRIO_PROCESS, 0)
    checker = Authenticator(users)
    try:
        for _ in range(2):
            assert checker.authenticate("192.0.2.1", b"alice", b"right") is ALICE
            assert users.nice == min(before + authenticator.NICE, 19)
            assert os.getpriority(os.PRIO_PROCESS, 0) == before
    finally:
        checker.close()
