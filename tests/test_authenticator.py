"""Guesses of passwords: how many are checked, and that those nobody waits for any more hold nobody up."""

import time
from collections.abc import Callable, Iterator

import gevent
import pytest

from kvss_gevent.core.user_file import Role, User, Users
from kvss_gevent.server.security import authenticator
from kvss_gevent.server.security.authenticator import Authenticator

ALICE = User("alice", Role.WRITE, "")
CROWD = 200


class CountedUsers(Users):
    """One user whose password is `right`; checking costs nothing and is counted."""

    def __init__(self) -> None:
        super().__init__({})
        self.checked = 0

    def authenticate(self, name: bytes, password: bytes) -> User | None:
        self.checked += 1
        return ALICE if password == b"right" else None


@pytest.fixture
def users() -> CountedUsers:
    return CountedUsers()


class NoThread:
    """Calls at once, so that only the order of guesses is left to chance."""

    def __init__(self, size: int) -> None:
        assert size == 1

    def apply(self, call: Callable[..., object], arguments: tuple[object, ...]) -> object:
        return call(*arguments)

    def kill(self) -> None:
        pass


@pytest.fixture
def checking(users: CountedUsers, monkeypatch: pytest.MonkeyPatch) -> Iterator[Authenticator]:
    monkeypatch.setattr(authenticator, "ThreadPool", NoThread)
    one = Authenticator(users)
    yield one
    one.close()


def test_a_flood_of_guesses_leaves_nothing_behind_that_a_login_must_wait_for(
    checking: Authenticator, users: CountedUsers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authenticator, "LONGEST_WAIT_S", 0.5)
    monkeypatch.setattr(authenticator, "FIRST_DELAY_S", 0.0)
    crowd = [gevent.spawn(checking.authenticate, "loopback", b"alice", b"wrong") for _ in range(CROWD)]
    began_s = time.monotonic()
    gevent.joinall(crowd, timeout=30, raise_error=True)
    assert [guess.value for guess in crowd if guess.ready()] == [None] * CROWD
    assert users.checked <= 7  # of one address, 10 in a second
    assert checking.authenticate("loopback", b"alice", b"right") is ALICE
    assert time.monotonic() - began_s < CROWD / authenticator.GUESSES_PER_S / 2


def test_a_guess_that_waited_too_long_for_the_thread_is_not_checked(
    checking: Authenticator, users: CountedUsers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authenticator, "LONGEST_WAIT_S", 0.05)
    with checking._turn:
        late = gevent.spawn(checking.authenticate, "192.0.2.1", b"alice", b"right")
        gevent.sleep(0.2)
    assert late.get(timeout=10) is None
    assert users.checked == 0
    assert checking.authenticate("192.0.2.2", b"alice", b"right") is ALICE
