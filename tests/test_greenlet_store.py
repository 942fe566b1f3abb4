"""Greenlets that wait for a store beside them: results reach who asked, waits end, late answers are dropped."""

from collections.abc import Iterator, Sequence
from typing import Any

import gevent
import pytest

from kvss_gevent.protocol.wire import Verb
from kvss_gevent.stores.base import Command, ReplyTable, StoreError
from kvss_gevent.stores.memory import MemoryStore
from kvss_gevent.stores.remote.greenlet_store import GreenletStore, for_greenlets


class SlowStore:
    """Keeps what it is asked until the test answers."""

    blocks = True
    run = put = None
    replies = ReplyTable()
    wait_s = 20.0

    def __init__(self) -> None:
        self.asked: list[tuple[Sequence[Command], Any]] = []
        self.closed = False

    def submit(self, batch: Sequence[Command], limit_bytes: int, done: Any) -> None:
        """Keep a batch; one whose key is `now` is answered before this returns."""
        assert limit_bytes == 100
        if batch[0][1] == b"now":
            done([b"at once"])
        else:
            self.asked.append((batch, done))

    def submit_get(self, key: bytes, limit_bytes: int, done: Any) -> None:
        """Do the same for one key."""
        self.submit([(Verb.GET, key, b"")], limit_bytes, done)

    def submit_count(self, done: Any) -> None:
        """Count at once, or fail."""
        done(StoreError("gone") if self.closed else 7)

    def running_on(self, runtime: Any) -> "SlowStore":
        """Be another."""
        assert runtime
        return SlowStore()

    def apply(self, batch: Sequence[Command], limit_bytes: int) -> list[bytes]:
        """Not for greenlets."""
        raise NotImplementedError

    def count(self) -> int:
        """Not for greenlets."""
        raise NotImplementedError

    def close(self) -> None:
        """Note it."""
        self.closed = True


@pytest.fixture
def slow() -> SlowStore:
    return SlowStore()


@pytest.fixture
def parking(slow: SlowStore) -> Iterator[GreenletStore]:
    store = GreenletStore(slow)
    yield store
    store.close()


def ask(store: GreenletStore, key: bytes) -> gevent.Greenlet:
    greenlet = gevent.spawn(store.apply, [(Verb.GET, key, b"")], 100)
    gevent.idle()
    return greenlet


def test_each_greenlet_gets_its_own_results_in_whatever_order_they_come(
    parking: GreenletStore, slow: SlowStore
) -> None:
    greenlets = [ask(parking, b"%d" % number) for number in range(5)]
    assert len(slow.asked) == 5
    for batch, done in reversed(slow.asked):
        done([batch[0][1]])
    gevent.joinall(greenlets, 20)
    assert [greenlet.value for greenlet in greenlets] == [[b"0"], [b"1"], [b"2"], [b"3"], [b"4"]]


def test_an_answer_at_once_is_an_answer(parking: GreenletStore) -> None:
    assert parking.apply([(Verb.GET, b"now", b"")], 100) == [b"at once"]
    assert parking.count() == 7


def test_a_batch_that_is_more_than_one_get_is_handed_in_whole(parking: GreenletStore, slow: SlowStore) -> None:
    batch = [(Verb.GET, b"a", b""), (Verb.PUT, b"a", b"1\n")]
    waiting = gevent.spawn(parking.apply, batch, 100)
    gevent.idle()
    ((asked, done),) = slow.asked
    assert asked == batch
    done([b"404 NOT_FOUND\n", b"201 CREATED\n"])
    waiting.join(20)
    assert waiting.value == [b"404 NOT_FOUND\n", b"201 CREATED\n"]


def test_an_error_is_raised_to_who_asked(parking: GreenletStore, slow: SlowStore) -> None:
    failing, other = ask(parking, b"a"), ask(parking, b"b")
    slow.asked[0][1](StoreError("no"))
    slow.asked[1][1]([b"fine"])
    gevent.joinall([failing, other], 20)
    assert isinstance(failing.exception, StoreError)
    assert other.value == [b"fine"]


def test_a_wait_ends_and_the_late_answer_reaches_nobody_else(parking: GreenletStore, slow: SlowStore) -> None:
    slow.wait_s = 0.3
    waiting = ask(parking, b"a")
    waiting.join(20)
    assert isinstance(waiting.exception, StoreError)
    assert "0.3 s" in str(waiting.exception)
    slow.wait_s = 20.0
    later = ask(parking, b"b")
    slow.asked[0][1]([b"late"])
    gevent.sleep(0.01)
    assert not later.dead
    slow.asked[1][1]([b"right"])
    later.join(20)
    assert later.value == [b"right"]


def test_being_woken_for_something_else_does_not_end_the_wait(parking: GreenletStore, slow: SlowStore) -> None:
    waiting = ask(parking, b"a")
    gevent.get_hub().loop.run_callback(waiting.switch)
    gevent.sleep(0.01)
    assert not waiting.dead
    slow.asked[0][1]([b"1"])
    waiting.join(20)
    assert waiting.value == [b"1"]


def test_only_stores_that_work_beside_us_are_wrapped(slow: SlowStore) -> None:
    memory = MemoryStore()
    assert for_greenlets(memory) is memory
    wrapped = for_greenlets(slow)
    assert isinstance(wrapped, GreenletStore)
    assert slow.closed
    wrapped.close()
