"""The slow log: who held the loop or the store, who may have waited for it, and who may read that."""

import json
import logging
import time
from dataclasses import dataclass, field
from typing import Any

import pytest
from slow_calls import MS, Client

from kvss_gevent.core.admin_commands import Admin
from kvss_gevent.core.login import views
from kvss_gevent.core.service import Service
from kvss_gevent.core.user_file import Role
from kvss_gevent.observe.kernel_figures import RunDelay
from kvss_gevent.observe.shared_figures import SLOW_ENTRIES, SharedFigures
from kvss_gevent.observe.slow_log import SlowLog, read_slow_log
from kvss_gevent.protocol.wire import Verb
from kvss_gevent.stores.memory import MemoryStore


@dataclass
class Loop:
    iteration: int = 7


@dataclass
class Log:
    """A slow log on a logical clock, whose calls are told one after the other; 20 ms are slow."""

    figures: SharedFigures = field(default_factory=lambda: SharedFigures(1))
    loop: Loop = field(default_factory=Loop)
    limits: list[int] = field(default_factory=list)
    now_ns: int = 10**12
    may_wait: bool = False

    def __post_init__(self) -> None:
        self.log = SlowLog(self.figures.rows[0], 0, 20, self.loop, lambda: self.now_ns)
        self.log.begin(self.limits.append, may_wait=self.may_wait)

    def call(self, client: Client, data: bytes, ms: float) -> None:
        self.now_ns += round(ms * MS)
        if ms * MS > self.limits[-1]:
            self.log.on_hold(client, data, round(ms * MS), self.now_ns)

    def store(self, client: Client, key: bytes, began_ms: float, ended_ms: float) -> None:
        self.log.on_store(
            client, [(Verb.GET, key, b"")], self.now_ns + int(began_ms * MS), self.now_ns + int(ended_ms * MS)
        )

    def end_turn(self, requests: int, ms: float) -> bool:
        """End a turn of the loop that began so many milliseconds ago."""
        found = self.log.on_turn(self.now_ns - round(ms * MS), self.now_ns, requests)
        self.loop.iteration += 1
        return found

    def entries(self, most: int = 1000) -> list[dict[str, Any]]:
        self.log.write_open()
        found: list[dict[str, Any]] = json.loads(read_slow_log(self.figures, 20, most))["entries"]
        return found


A, B, C = (Client(("127.0.0.1", port)) for port in (1, 2, 3))


@pytest.fixture(autouse=True)
def _a_core_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RunDelay, "ns", lambda _: 0)


def test_an_entry_names_the_culprit_and_those_who_came_right_after() -> None:
    told = Log()
    told.call(B, b"KV/1.0 GET before\n", 1)
    told.call(A, b"KV/1.0 PUT key secret\n", 50)
    told.call(B, b"KV/1.0 GET b\n", 0.1)  # ready before the hold began
    told.call(A, b"KV/1.0 GET own\n", 0)  # its own doing
    told.loop.iteration += 1
    told.call(C, b"KV/1.0 GET c\nKV/1.0 GET d\n", 0.5)  # arrived meanwhile
    told.loop.iteration += 1
    told.call(B, b"KV/1.0 GET late\n", 1)
    (entry,) = told.entries()
    assert entry.pop("at") == pytest.approx(time.time(), abs=60)
    assert entry == {
        "worker": 0,
        "held": "loop",
        "client": "127.0.0.1:1",
        "command": "PUT key",
        "ms": 50.0,
        "waited": 3,
        "without_core_ms": 0.0,
        "slowest": {"client": "127.0.0.1:3", "command": "GET c and 1 more", "ms": 50.6},
    }
    assert told.limits[-1] == 20 * MS  # nothing is told any more of calls that are quick


def test_a_victim_that_is_slow_itself_is_a_culprit_too_and_both_have_followers() -> None:
    told = Log()
    told.call(A, b"KV/1.0 GET a\n", 30)
    told.call(B, b"KV/1.0 GET b\n", 40)
    told.call(C, b"KV/1.0 GET c\n", 1)
    found = {entry["client"][-1]: (entry["waited"], entry["slowest"]["ms"]) for entry in told.entries()}
    assert found == {"1": (2, 71.0), "2": (1, 41.0)}


def test_a_time_without_a_core_accuses_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Log()
    told.log.look_at_delay()
    told.now_ns += 15 * MS
    monkeypatch.setattr(RunDelay, "ns", lambda _: 50 * MS)
    told.call(A, b"KV/1.0 GET a\n", 50)
    (entry,) = told.entries()
    assert (entry["held"], entry["client"], entry["command"]) == ("machine", "", "")
    assert entry["without_core_ms"] == 35  # 15 of the 50 may lie before the call


def test_a_culprit_that_lost_its_core_for_a_part_is_told_both_times(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told = Log()
    told.log.look_at_delay()
    monkeypatch.setattr(RunDelay, "ns", lambda _: 12 * MS)
    told.call(A, b"KV/1.0 GET a\n", 52)
    (entry,) = told.entries()
    assert (entry["held"], entry["ms"], entry["without_core_ms"]) == ("loop", 52, 12)
    told.loop.iteration += 2
    with caplog.at_level(logging.INFO, "kvss"):
        told.log.on_timer(told.now_ns, told.now_ns)
    assert "held the loop for 52 ms, 12.0 ms of them without a core; 0 request(s)" in caplog.text


def test_a_time_without_a_core_before_a_call_does_not_excuse_it(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Log()
    told.log.look_at_delay()
    told.now_ns += 15 * MS
    monkeypatch.setattr(RunDelay, "ns", lambda _: 15 * MS)
    told.call(A, b"KV/1.0 SLEEP 30\n", 30)
    assert [entry["command"] for entry in told.entries()] == ["SLEEP 30"]


def test_a_pipeline_is_blamed_for_the_command_that_was_slow() -> None:
    told = Log()
    told.log.on_lab(told.now_ns + 1 * MS, told.now_ns + 46 * MS, b"KV/1.0 BURN 45\n")
    told.call(A, b"KV/1.0 GET a\nKV/1.0 BURN 45\nKV/1.0 GET b\n", 47)
    told.loop.iteration += 5
    told.call(B, b"KV/1.0 GET next\n", 30)
    assert sorted(entry["command"] for entry in told.entries()) == ["BURN 45", "GET next"]


def test_a_slow_store_is_the_stores_and_one_commit_for_many_is_one_entry() -> None:
    told = Log(may_wait=True)
    told.store(A, b"a", 0, 60)
    told.store(B, b"b", 5, 61)
    told.loop.iteration += 1
    told.store(C, b"c", 30, 90)
    found = {entry["command"]: (entry["held"], entry["client"][-1], entry["waited"]) for entry in told.entries()}
    assert found == {"GET a": ("store", "1", 1), "GET c": ("store", "3", 0)}
    assert not any("without_core_ms" in entry for entry in told.entries())


def test_a_wait_for_the_store_while_somebody_else_held_the_loop_is_not_the_stores() -> None:
    told = Log(may_wait=True)
    began_ms = -1.0
    told.call(A, b"KV/1.0 BURN 50\n", 50)
    told.store(B, b"victim", began_ms - 50, 2)
    told.log.on_timer(told.now_ns, told.now_ns + 40 * MS)
    told.store(C, b"victim", 0, 41)
    assert [entry["command"] for entry in told.entries()] == ["BURN 50"]


def test_a_turn_that_took_long_for_an_unknown_reason_has_an_entry_that_accuses_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told = Log()
    assert told.end_turn(50, 45)
    told.call(A, b"KV/1.0 GET a\n", 1)
    told.call(B, b"KV/1.0 GET b\n", 1)
    assert not told.end_turn(2, 2)
    with caplog.at_level(logging.INFO, "kvss"):
        told.call(C, b"KV/1.0 GET late\n", 1)
    (entry,) = told.entries()
    del entry["at"]
    assert entry == {
        "worker": 0,
        "held": "loop",
        "client": "",
        "command": "a turn of 50 requests",
        "ms": 45.0,
        "waited": 2,
        "without_core_ms": 0.0,
        "slowest": {"client": "127.0.0.1:2", "command": "GET b", "ms": 47.0},
    }
    (line,) = caplog.messages
    assert line == "slow: a turn of 50 requests held the loop for 45 ms; 2 request(s) may have waited"


@pytest.mark.parametrize(
    ("requests", "ms", "command"),
    [
        (0, 20, None),
        (0, 20.1, "a turn without requests"),
        (1, 20.1, "a turn of 1 request"),
        (1000, 30, None),
        (1000, 30.1, "a turn of 1,000 requests"),
    ],
)
def test_a_turn_may_take_longer_the_more_requests_it_answers(requests: int, ms: float, command: str | None) -> None:
    told = Log()
    assert told.end_turn(requests, ms) is bool(command)
    assert [entry["command"] for entry in told.entries()] == [command] * bool(command)


def test_a_hold_that_has_an_entry_is_not_told_again_as_a_turn_but_another_one_of_the_same_turn_is() -> None:
    told = Log(may_wait=True)
    told.call(A, b"KV/1.0 BURN 50\n", 50)
    assert not told.end_turn(1, 55)
    told.now_ns += 45 * MS
    told.store(B, b"blocks", -40, 0)  # a store that did not let the loop go on
    assert not told.end_turn(1, 45)
    told.call(A, b"KV/1.0 BURN 50\n", 50)
    told.now_ns += 30 * MS
    assert told.end_turn(1, 80)
    found = [(entry["command"], entry["ms"]) for entry in told.entries()]
    assert found == [("a turn of 1 request", 30), ("BURN 50", 50), ("GET blocks", 40), ("BURN 50", 50)]


def test_a_call_that_waits_for_the_end_of_the_turn_is_not_accused_of_what_others_held_meanwhile() -> None:
    told = Log()
    told.now_ns += 2 * MS
    told.call(A, b"KV/1.0 BURN 50\n", 50)
    told.now_ns += 30 * MS  # a commit for B and C
    told.log.on_hold(B, b"KV/1.0 PUT b 1\n", 82 * MS, told.now_ns)
    told.log.on_hold(C, b"KV/1.0 PUT c 1\n", 81 * MS, told.now_ns)
    assert not told.end_turn(3, 82)
    found = [(entry["command"], entry["ms"], entry["waited"]) for entry in told.entries()]
    assert found == [("PUT b", 32, 1), ("BURN 50", 50, 2)]


def test_a_wait_for_the_store_is_not_the_stores_where_a_turn_took_long() -> None:
    told = Log(may_wait=True)
    told.now_ns += 50 * MS
    told.end_turn(0, 50)
    told.store(B, b"victim", -55, 1)
    assert [entry["held"] for entry in told.entries()] == ["loop"]


def test_a_turn_without_a_core_is_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Log()
    monkeypatch.setattr(RunDelay, "ns", lambda _: 30 * MS)
    told.now_ns += 40 * MS
    assert not told.end_turn(3, 40)
    (entry,) = told.entries()
    assert (entry["held"], entry["client"], entry["command"], entry["ms"]) == ("machine", "", "", 40)


def test_an_entry_is_logged_soon_even_if_nobody_asks_any_more(caplog: pytest.LogCaptureFixture) -> None:
    told = Log()
    told.call(A, b"KV/1.0 PUT key secret\n", 50)
    with caplog.at_level(logging.INFO, "kvss"):
        told.loop.iteration += 1
        told.log.on_timer(told.now_ns, told.now_ns)
        assert not caplog.messages
        assert told.limits[-1] == -1  # requests of this turn may have waited
        told.loop.iteration += 1
        told.log.on_timer(told.now_ns, told.now_ns)
    (line,) = caplog.messages
    assert line == "slow: PUT key of 127.0.0.1:1 held the loop for 50 ms; 0 request(s) may have waited"
    assert told.limits[-1] == 20 * MS


def test_the_log_is_a_ring() -> None:
    told = Log()
    for number in range(SLOW_ENTRIES + 30):
        told.loop.iteration += 5
        told.call(A, b"KV/1.0 GET key%d\n" % number, 30)
    commands = {entry["command"] for entry in told.entries()}
    assert commands == {f"GET key{number}" for number in range(30, SLOW_ENTRIES + 30)}
    assert len(told.entries(5)) == 5
    assert told.figures.total("slow") == SLOW_ENTRIES + 30


def test_a_key_that_is_no_plain_text_makes_no_entry_that_cannot_be_read() -> None:
    told = Log()
    told.call(A, b"KV/1.0 GET " + b"\x01" * 500 + b"\n", 30)
    told.call(B, b"KV/1.0 PUT " + b"\x02" * 60 + "ä".encode() * 9 + b" v\n", 1)
    (entry,) = told.entries()
    assert entry["command"].startswith("GET \x01")


@pytest.mark.parametrize(("line", "most"), [(b"KV/1.0 SLOWLOG\n", 10), (b"KV/1.0 SLOWLOG 3\n", 3)])
def test_slowlog_answers_one_line_of_json(line: bytes, most: int) -> None:
    asked: list[int] = []
    service = Service(MemoryStore())
    service.admin = Admin(lambda number: asked.append(number) or b"{}")
    assert service.open("loopback").receive(line) == b"200 OK {}\n"
    assert asked == [most]
    assert service.open("10.0.0.1").receive(line) == b"400 BAD_REQUEST\n"


@pytest.mark.parametrize(
    "line", [b"KV/1.0 SLOWLOG 0\n", b"KV/1.0 SLOWLOG x\n", b"KV/1.0 SLOWLOG 1 2\n", b"KV/1.0 slowlog\n"]
)
def test_a_malformed_slowlog_is_400(line: bytes) -> None:
    service = Service(MemoryStore())
    service.admin = Admin(lambda number: b"{}")
    assert service.open("loopback").receive(line) == b"400 BAD_REQUEST\n"


def test_slowlog_is_for_the_role_admin() -> None:
    service = Service(MemoryStore())
    service.admin = Admin(lambda number: b"{}")
    replies = {role: seen.converse(seen).receive(b"KV/1.0 SLOWLOG\n") for role, seen in views(service).items()}
    assert replies == {
        Role.READ: b"403 FORBIDDEN\n",
        Role.WRITE: b"403 FORBIDDEN\n",
        Role.ADMIN: b"200 OK {}\n",
    }
