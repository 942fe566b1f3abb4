"""Values written with a time to live: a 404 is right from the deadline on and never before."""

from random import Random

import pytest

from kvss_gevent.loadtest.engine.request_stream import RequestStream
from kvss_gevent.loadtest.load_options import read_options
from kvss_gevent.loadtest.workload import keys
from kvss_gevent.loadtest.workload.lifetimes import Lifetimes
from kvss_gevent.loadtest.workload.mix import Op, Workload, parse_mix, parse_sizes
from kvss_gevent.loadtest.workload.proving_values import LOST, OUTLIVED, Ledger

TTL_S, LATE_S = 5, 2
OK, CREATED, NOT_FOUND, NO_CONTENT = b"200 OK", b"201 CREATED", b"404 NOT_FOUND", b"204 NO_CONTENT"


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class User:
    """A stream with what it sends and is answered, on a clock of its own."""

    def __init__(self, *, loaded: bool = True, part: tuple[int, int] = (0, 1)) -> None:
        self.clock = Clock()
        ledger = Ledger(100, b"0a1b2c3d", part, loaded)
        ledger.lifetimes = Lifetimes(TTL_S, LATE_S, self.clock)
        workload = Workload(parse_mix("80:15:5"), keys.parse("uniform"))
        self.stream = RequestStream(workload, parse_sizes("100"), 100, Random(1), ledger, TTL_S)

    def put(self, key: int) -> bytes:
        """Write a value; return the reply to a GET of it."""
        line, expectation = self.stream.prepare(Op.PUT, key)
        assert self.stream.judge(expectation, OK)[1] == ""
        return b"200 OK " + line.rstrip(b"\n").split(b" ", 4)[4]

    def get(self, key: int, reply: bytes, took_s: float = 0.0) -> str:
        """Read a key; return the failure."""
        _, expectation = self.stream.prepare(Op.GET, key)
        self.clock.now_s += took_s
        return self.stream.judge(expectation, reply)[1]


def test_a_write_has_its_time_to_live_in_it() -> None:
    line, _ = User().stream.prepare(Op.PUT, 7)
    assert line.startswith(b"KV/1.0 PUTEX 5 user7 ")


def test_a_key_may_be_gone_from_its_deadline_on_and_not_before() -> None:
    user = User()
    value = user.put(7)
    user.clock.now_s += 4.9
    assert user.get(7, value) == ""
    assert user.get(7, NOT_FOUND) == LOST
    user.clock.now_s += 0.1
    assert user.get(7, NOT_FOUND) == ""
    user.put(7)
    assert user.get(7, NOT_FOUND) == LOST
    assert user.get(8, NOT_FOUND) == LOST, "what was loaded does not end"


def test_a_value_that_is_still_there_long_after_its_deadline_is_told() -> None:
    user = User()
    value = user.put(7)
    user.clock.now_s += TTL_S + LATE_S
    assert user.get(7, value) == "", "the reply may have been under way for so long"
    user.clock.now_s += 0.1
    assert user.get(7, value) == OUTLIVED


def test_a_write_without_an_answer_may_end_when_its_time_has_passed() -> None:
    user = User()
    user.stream.prepare(Op.PUT, 7)
    assert user.get(7, NOT_FOUND) == LOST
    user.clock.now_s += TTL_S
    assert user.get(7, NOT_FOUND) == ""


def test_of_writes_at_the_same_time_the_first_may_be_the_one_that_counts() -> None:
    user = User()
    _, first = user.stream.prepare(Op.PUT, 7)
    user.clock.now_s += 3
    _, second = user.stream.prepare(Op.PUT, 7)
    for expectation in (first, second):
        user.stream.judge(expectation, OK)
    user.clock.now_s += 2
    assert user.get(7, NOT_FOUND) == ""
    user.put(7)
    user.clock.now_s += 4
    assert user.get(7, NOT_FOUND) == LOST


def test_a_get_that_was_overtaken_by_a_write_is_not_judged_by_it() -> None:
    user = User()
    user.put(7)
    user.clock.now_s += TTL_S
    _, expectation = user.stream.prepare(Op.GET, 7)
    user.put(7)
    assert user.stream.judge(expectation, NOT_FOUND)[1] == ""


def test_a_new_value_is_not_taken_for_an_old_one_that_stayed() -> None:
    user = User()
    user.put(7)
    user.clock.now_s += 100
    line, _ = user.stream.prepare(Op.PUT, 7)
    assert user.get(7, b"200 OK " + line.rstrip(b"\n").split(b" ", 4)[4]) == "", "its write is not answered yet"


def test_another_process_s_keys_may_end_at_any_time() -> None:
    user = User(part=(0, 2))
    assert user.get(7, NOT_FOUND) == ""


def test_a_delete_that_finds_nothing_may_have_come_too_late() -> None:
    user = User()
    user.put(7)
    user.clock.now_s += TTL_S
    assert user.stream.judge(user.stream.prepare(Op.DEL, 7)[1], NOT_FOUND)[1] == ""


@pytest.mark.parametrize("text", ["-1", "1.5", "1000000001", "soon"])
def test_a_time_that_the_protocol_cannot_carry_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="--kv-ttl"):
        read_options({"ttl": text})
