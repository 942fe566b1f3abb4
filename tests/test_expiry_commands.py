"""PUTEX, EXPIRE, TTL and PERSIST (rule 15): a session's replies, over the memory store and a clock of the test."""

from itertools import pairwise

import gevent
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from plain_stores import BatchStore
from test_expiry import Clock

from kvss_gevent.core.conversation import Limits
from kvss_gevent.core.logged_conversation import logged
from kvss_gevent.core.login import views
from kvss_gevent.core.service import Service
from kvss_gevent.core.session import Session
from kvss_gevent.core.user_file import Role
from kvss_gevent.server import timeouts
from kvss_gevent.server.timeouts import RECLAIM_KEYS, reclaim
from kvss_gevent.stores.base import Store
from kvss_gevent.stores.memory import ENTRY_OVERHEAD_BYTES, MemoryStore


def ask(session: Session, *requests: bytes) -> list[bytes]:
    replies = session.receive(b"".join(b"KV/1.0 %b\n" % request for request in requests))
    while session.more:
        replies += session.proceed()
    return replies.split(b"\n")[:-1]


def batch_store(clock: Clock) -> Store:
    store = BatchStore(at_most=2)
    store.inner = MemoryStore(clock=clock)
    return store


WAYS = {
    "inline": lambda clock: Service(MemoryStore(clock=clock)),
    "logged": lambda clock: Service(MemoryStore(clock=clock), converse=logged),
    "batch stopping early": lambda clock: Service(batch_store(clock)),
    "small slices": lambda clock: Service(MemoryStore(clock=clock), Limits(slice_lines=2)),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_key_is_there_until_its_deadline_and_absent_for_every_command_from_then_on(way: str) -> None:
    clock = Clock()
    session = WAYS[way](clock).open()
    assert ask(session, b"PUTEX 10 k two words ", b"GET k", b"TTL k") == [
        b"201 CREATED",
        b"200 OK two words ",
        b"200 OK 10",
    ]
    clock.now_s += 9.999
    assert ask(session, b"GET k", b"TTL k", b"GET k") == [b"200 OK two words ", b"200 OK 1", b"200 OK two words "]
    clock.now_s += 0.001
    absent = [b"GET k", b"TTL k", b"DEL k", b"EXPIRE k 5", b"PERSIST k"]
    assert ask(session, *absent) == [b"404 NOT_FOUND"] * 5
    assert ask(session, b"PUT k 1", b"TTL k") == [b"201 CREATED", b"200 OK -1"]


@pytest.mark.parametrize("way", WAYS)
def test_what_changes_a_deadline(way: str) -> None:
    clock = Clock()
    session = WAYS[way](clock).open()
    asked = {
        b"PUT k 1": b"201 CREATED",
        b"EXPIRE k 5": b"200 OK",
        b"TTL k": b"200 OK 5",
        b"PUTEX 7 k 2": b"200 OK",
        b"GET k": b"200 OK 2",
        b"EXPIRE k 1000000000": b"200 OK",
        b"TTL k ": b"400 BAD_REQUEST",
        b"PERSIST k": b"200 OK",
        b"PUT k 3": b"200 OK",
        b"EXPIRE k 1": b"200 OK",
        b"DEL k": b"204 NO_CONTENT",
        b"PUTEX 3 k 4": b"201 CREATED",
        b"PUT k 5": b"200 OK",
    }
    assert ask(session, *asked) == list(asked.values())
    clock.now_s += 1_000_000_000
    assert ask(session, b"TTL k", b"GET k") == [b"200 OK -1", b"200 OK 5"]


@pytest.mark.parametrize(
    "request_words",
    [
        b"PUTEX 0 k v",
        b"PUTEX 1000000001 k v",
        b"PUTEX -1 k v",
        b"PUTEX +1 k v",
        b"PUTEX 1.5 k v",
        b"PUTEX 1_0 k v",
        b"PUTEX \xd9\xa3 k v",
        b"PUTEX  k v",
        b"PUTEX 5 k ",
        b"PUTEX 5 k",
        b"PUTEX 5  v",
        b"PUTEX",
        b"PUTEX 5 " + b"k" * 512 + b" v",
        b"PUTEX " + b"9" * 5000 + b" k v",
        b"putex 5 k v",
        b"EXPIRE k",
        b"EXPIRE k 0",
        b"EXPIRE k 5 6",
        b"EXPIRE k 5 ",
        b"EXPIRE  5",
        b"TTL",
        b"TTL ",
        b"TTL k k",
        b"PERSIST",
        b"PERSIST k 5",
    ],
)
def test_a_malformed_request_gets_400_and_changes_nothing(request_words: bytes) -> None:
    session = Service(MemoryStore()).open()
    ask(session, b"PUT k 1")
    assert ask(session, request_words, b"GET k", b"TTL k") == [b"400 BAD_REQUEST", b"200 OK 1", b"200 OK -1"]


def test_zeros_in_front_of_a_time_do_not_count() -> None:
    session = Service(MemoryStore()).open()
    assert ask(session, b"PUTEX " + b"0" * 9000 + b"5 k v", b"TTL k") == [b"201 CREATED", b"200 OK 5"]


def test_strict_knows_the_five_commands_alone() -> None:
    session = Service(MemoryStore(), strict=True).open()
    requests = [b"PUTEX 5 k v", b"EXPIRE k 5", b"TTL k", b"PERSIST k", b"PUT k v", b"GET k", b"DEL k"]
    assert ask(session, *requests) == [b"400 BAD_REQUEST"] * 4 + [b"201 CREATED", b"200 OK v", b"204 NO_CONTENT"]


def test_who_may_read_may_ask_how_long_and_change_nothing() -> None:
    service = Service(MemoryStore())
    ask(service.open(), b"PUTEX 9 k v")
    for reader in (views(service)[Role.READ], views(Service(BatchStore()))[Role.READ]):
        requests = [b"TTL k", b"EXPIRE k 5", b"PERSIST k", b"PUTEX 5 k v", b"TTL k"]
        replies = ask(Session(reader), *requests)
        assert replies[1:4] == [b"403 FORBIDDEN"] * 3
        assert replies[0] == replies[4] != b"403 FORBIDDEN"


def test_they_are_counted_as_commands_and_as_no_others() -> None:
    session = Service(MemoryStore()).open()
    (*_, stats) = ask(
        session, b"PUTEX 5 a 1", b"PUTEX 5 b 1", b"EXPIRE a 9", b"TTL a", b"PERSIST a", b"GET b", b"STATS"
    )
    assert stats.endswith(b"commands_processed: 6; get_requests: 1; put_requests: 0; del_requests: 0; keys_stored: 2")


def test_stats_do_not_count_what_ended_in_earlier_seconds() -> None:
    clock = Clock()
    session = Service(MemoryStore(clock=clock)).open()
    ask(session, b"PUT stays 1", *(b"PUTEX %d k%d 1" % (number % 5 + 1, number) for number in range(50)))
    clock.now_s += 7
    assert ask(session, b"STATS")[0].endswith(b"keys_stored: 1")


def test_a_full_store_has_room_again_when_keys_have_ended() -> None:
    clock = Clock()
    session = Service(MemoryStore(2 * (ENTRY_OVERHEAD_BYTES + 50), clock)).open()
    assert ask(session, b"PUTEX 5 a 1", b"PUTEX 5 b 1", b"PUT c 1")[2] == b"500 SERVER_ERROR"
    clock.now_s += 7
    assert ask(session, b"STATS", b"PUT c 1")[1] == b"201 CREATED"


def test_a_server_forgets_keys_that_have_ended_in_small_steps_while_nobody_asks() -> None:
    clock = Clock()
    store = MemoryStore(clock=clock)
    session = Service(store).open()
    ask(session, *(b"PUTEX 5 k%d 1" % number for number in range(3 * RECLAIM_KEYS)))
    clock.now_s += 7
    steps = []

    class Watched:
        def reclaim(self, most: int) -> bool:
            before_bytes = store.used_bytes
            more = store.reclaim(most)
            steps.append(before_bytes - store.used_bytes)
            return more

    greenlet = gevent.spawn(reclaim, Watched())
    with gevent.Timeout(30):
        while store.used_bytes:
            gevent.sleep(0.01)
    greenlet.kill()
    assert len([size_bytes for size_bytes in steps if size_bytes]) in (3, 4)
    assert max(steps) < 1.2 * sum(steps) / 3


def test_a_server_forgets_keys_for_a_bounded_time_and_then_lets_others_run(monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[str] = []

    class Slow:
        def reclaim(self, most: int) -> bool:
            happened.append("slow" if timeouts.RECLAIM_SLICE_S == 0 else "quick")
            return len(happened) < 20 * timeouts.RECLAIM_KEYS

    def others() -> None:
        while True:
            gevent.sleep(0)
            happened.append("others")

    monkeypatch.setattr(timeouts, "RECLAIM_INTERVAL_S", 0.0)
    for slice_s in (0.0, 10.0):
        monkeypatch.setattr(timeouts, "RECLAIM_SLICE_S", slice_s)
        happened.clear()
        greenlets = [gevent.spawn(reclaim, Slow()), gevent.spawn(others)]
        with gevent.Timeout(20):
            while sum(one != "others" for one in happened) < 4:
                gevent.sleep(0.001)
        gevent.killall(greenlets)
        followed = set(pairwise(happened))
        assert ("slow", "slow") not in followed
        assert (("quick", "quick") in followed) == bool(slice_s)


VERBS = ["GET", "PUT", "DEL", "TTL", "EXPIRE", "PERSIST", "PUTEX"]


class Machine(RuleBasedStateMachine):
    """The memory store beside a dict of values and deadlines, with every command and a clock that goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.store = MemoryStore(clock=self.clock)
        self.session = Service(self.store).open()
        self.model: dict[bytes, tuple[bytes, float]] = {}

    @rule(quarters=st.integers(1, 12))
    def wait(self, quarters: int) -> None:
        self.clock.now_s += quarters / 4
        now_s = self.clock.now_s
        self.model = {key: entry for key, entry in self.model.items() if entry[1] > now_s}

    @rule(verb=st.sampled_from(VERBS), key=st.sampled_from([b"a", b"b"]))
    def command(self, verb: str, key: bytes) -> None:
        forever, now_s = float("inf"), self.clock.now_s
        value, deadline_s = self.model.get(key, (b"", forever))
        seconds, new = len(self.model) + 1, b"value at %d" % now_s
        put, there = b"200 OK" if value else b"201 CREATED", b"200 OK" if value else b"404 NOT_FOUND"
        left = -1 if deadline_s == forever else int(-(-(deadline_s - now_s) // 1))
        words, expected = {
            "GET": (b"GET " + key, b"200 OK " + value if value else there),
            "PUT": (b"PUT %b %b" % (key, new), put),
            "PUTEX": (b"PUTEX %d %b %b" % (seconds, key, new), put),
            "DEL": (b"DEL " + key, b"204 NO_CONTENT" if value else there),
            "TTL": (b"TTL " + key, b"200 OK %d" % left if value else there),
            "EXPIRE": (b"EXPIRE %b %d" % (key, seconds), there),
            "PERSIST": (b"PERSIST " + key, there),
        }[verb]
        assert ask(self.session, words) == [expected]
        if verb in ("PUT", "PUTEX"):
            self.model[key] = new, now_s + seconds if verb == "PUTEX" else forever
        elif verb == "DEL":
            self.model.pop(key, None)
        elif value and verb in ("EXPIRE", "PERSIST"):
            self.model[key] = value, now_s + seconds if verb == "EXPIRE" else forever

    @rule(most=st.integers(0, 3))
    def reclaim(self, most: int) -> None:
        self.store.reclaim(most)

    @invariant()
    def the_table_has_what_does_not_expire(self) -> None:
        expected = {b"KV/1.0 GET %b\n" % key for key, entry in self.model.items() if entry[1] == float("inf")}
        assert set(self.store.replies) == expected

    def teardown(self) -> None:
        self.clock.now_s += 100
        while self.store.reclaim(2):
            pass
        entries = self.store.replies.items()
        assert self.store.used_bytes == sum(len(a) + len(b) + ENTRY_OVERHEAD_BYTES for a, b in entries)


def test_the_memory_store_is_a_dict_with_deadlines() -> None:
    run_state_machine_as_test(Machine, settings=settings(max_examples=60, stateful_step_count=30, deadline=None))
