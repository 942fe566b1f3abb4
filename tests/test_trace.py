"""Events at the session seam: what a traced conversation notes, and the ring that keeps it across processes."""

import itertools
import os
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvss_gevent.core.conversation import Limits
from kvss_gevent.core.lab_commands import Lab
from kvss_gevent.core.service import Service
from kvss_gevent.core.session import Session
from kvss_gevent.stores.base import StoreError
from kvss_gevent.stores.memory import MemoryStore
from kvss_gevent.trace.events import HEAD_BYTES, Event, What
from kvss_gevent.trace.noted_conversation import CPU_READ_NS, Tracer, cpu_clock
from kvss_gevent.trace.ring import Ring, read
from kvss_gevent.trace.scenes.stalling_store import StallingStore

LINES = b"KV/1.0 PUT a 1\nKV/1.0 GET a\nKV/1.0 GET b\nnonsense\nKV/1.0 STATS\nKV/1.0 QUIT\nKV/1.0 GET a\n"


def traced(store: object = None, lab: Lab | None = None, limits: Limits | None = None) -> tuple[Service, list[Event]]:
    noted: list[Event] = []
    service = Service(store or MemoryStore(), limits, lab=lab, converse=Tracer(Session, noted.append))
    return service, noted


def talk(service: Service, pieces: list[bytes]) -> list[tuple[bytes, bool, bool, bytes | None]]:
    conversation, seen = service.open(), []
    for piece in pieces:
        replies = conversation.receive(piece)
        seen.append(
            (replies, conversation.more, conversation.closed, conversation.partial and bytes(conversation.partial))
        )
        while conversation.more:
            replies = conversation.proceed()
            seen.append((replies, conversation.more, conversation.closed, None))
    return seen


@given(st.lists(st.integers(0, len(LINES)), max_size=6))
def test_a_traced_conversation_answers_as_a_plain_one_wherever_the_stream_is_cut(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(LINES)]
    pieces = [LINES[a:b] for a, b in itertools.pairwise(places) if a < b]
    limits = Limits(slice_lines=2)
    plain = Service(MemoryStore(), limits)
    service, noted = traced(limits=limits)
    assert talk(service, pieces) == talk(plain, pieces)
    calls = [event for event in noted if event[0] in (What.RECEIVE, What.PROCEED)]
    assert sum(event[4] for event in calls) == len(LINES)
    assert len(calls) == len([*talk(Service(MemoryStore(), limits), pieces)])


def test_every_call_is_one_event_with_its_bytes_and_the_begin_of_what_came() -> None:
    service, noted = traced()
    first, second = service.open(), service.open()
    first.receive(b"KV/1.0 PUT key " + b"v" * 100 + b"\n")
    second.receive(b"KV/1.0 GET key\n")
    second.quiet = True
    assert second.quiet
    opened, other, put, get = noted
    assert [event[:2] for event in noted] == [(What.OPEN, 1), (What.OPEN, 2), (What.RECEIVE, 1), (What.RECEIVE, 2)]
    assert put[4:6] == (116, len(b"201 CREATED\n"))
    assert put[6] == b"KV/1.0 PUT key " + b"v" * (HEAD_BYTES - 15)
    assert get[4:] == (15, 100 + len(b"200 OK \n"), b"KV/1.0 GET key\n")
    assert opened[2] <= other[2] <= put[2] <= put[3] <= get[2] <= get[3]
    assert opened[4:6] == (threading.get_native_id(), os.getpid())


def test_what_waits_inside_a_call_is_noted_for_its_own_conversation() -> None:
    service, noted = traced(StallingStore(MemoryStore(), time.sleep), Lab())
    service.open()
    conversation = service.open()
    assert conversation.receive(b"KV/1.0 GET stall:30:x\n") == b"404 NOT_FOUND\n"
    assert (
        conversation.receive(b"KV/1.0 SLEEP 20\nKV/1.0 BURN 1\nKV/1.0 NAP 3\n") == b"200 OK\n200 OK\n400 BAD_REQUEST\n"
    )
    inner = [event for event in noted if event[0] in (What.STORE, What.BLOCK, What.COMPUTE)]
    assert [event[:2] for event in inner] == [(What.STORE, 2), (What.BLOCK, 2), (What.COMPUTE, 2)]
    store, block, _ = inner
    assert store[3] - store[2] >= 30e6
    assert block[3] - block[2] >= 20e6


def test_a_store_that_fails_is_noted_and_answers_500() -> None:
    def fail(_: float) -> None:
        raise StoreError("gone")

    service, noted = traced(StallingStore(MemoryStore(), fail))
    assert service.open().receive(b"KV/1.0 GET stall:1:x\n") == b"500 SERVER_ERROR\n"
    assert What.STORE in [event[0] for event in noted]


def test_a_bounded_queue_is_a_reader() -> None:
    kept: deque[Event] = deque(maxlen=3)
    conversation = Service(MemoryStore(), converse=Tracer(Session, kept.append)).open()
    for _ in range(10):
        conversation.receive(b"KV/1.0 GET a\n")
    assert len(kept) == 3


def test_the_cpu_clock_tells_work_from_sleep() -> None:
    clock = cpu_clock()
    before, cpu_before, delay_before = clock()
    time.sleep(0.05)
    own_middle = time.thread_time_ns()
    middle, cpu_middle, _ = clock()
    until = time.thread_time_ns() + 20_000_000
    while time.thread_time_ns() < until:
        pass
    _, cpu_after, delay_after = clock()
    own_ns = time.thread_time_ns() - own_middle  # more than 20 ms where the hypervisor takes the core and tells nobody
    assert middle - before >= 50e6
    assert cpu_middle - cpu_before < 10e6
    assert 20e6 <= cpu_after - cpu_middle < own_ns + 5e6
    assert delay_after >= delay_before


def test_calls_close_to_each_other_share_one_reading_of_the_threads_time(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter(range(1_000_000, 1_000_000_000, 1_000_000))
    monkeypatch.setattr(time, "thread_time_ns", lambda: next(readings))
    clock = cpu_clock()
    stamps = [clock() for _ in range(200)]
    assert next(readings) // 1_000_000 < 200
    for _, cpu_ns, _ in stamps:
        assert cpu_ns % 1_000_000 < CPU_READ_NS


def event(number: int, head: bytes = b"") -> Event:
    return (What.RECEIVE, number, (number * 10, 0, 0), (number * 10 + 5, 3, 1), 7, 8, head)


def test_a_ring_returns_what_was_put_and_counts_what_was_lost(tmp_path: Path) -> None:
    ring = Ring(tmp_path / "ring", slots=2, slot_events=4)
    for number in range(1, 4):
        ring.put(event(number, b"KV/1.0 GET client:%d\n" % number))
    noted, lost = read(tmp_path / "ring", slot_events=4)
    assert lost == 0
    assert [
        (one.conversation, one.began_ns, one.wall_ns, one.cpu_ns, one.bytes_in, one.bytes_out) for one in noted
    ] == [(number, number * 10, 5, 3, 7, 8) for number in (1, 2, 3)]
    assert noted[2].head == b"KV/1.0 GET client:3\n"
    for number in range(4, 7):
        ring.put(event(number))
    noted, lost = read(tmp_path / "ring", slot_events=4)
    assert [one.conversation for one in noted] == [3, 4, 5, 6]
    assert lost == 2


def test_a_process_that_is_killed_leaves_its_events(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys, time; from pathlib import Path; from kvss_gevent.trace.ring import Ring\n"
        "from kvss_gevent.trace.events import What\n"
        "ring = Ring(Path(sys.argv[1]), slots=2, slot_events=8); ring.follow_forks()\n"
        "ring.put((What.RECEIVE, 1, (1, 0, 0), (2, 0, 0), 0, 0, b''))\n"
        "pid = os.fork()\n"
        "if not pid:\n"
        "    ring.put((What.RECEIVE, 1, (3, 0, 0), (4, 0, 0), 0, 0, b'child'))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "os.waitpid(pid, 0)\n"
        "pid = os.fork()\n"
        "if not pid: time.sleep(9)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    command = [sys.executable, "-c", script, tmp_path / "ring"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    noted, lost = read(tmp_path / "ring", slot_events=8)
    by_slot = [[one.what for one in noted if one.process == process] for process in (0, 1)]
    assert lost == 0
    assert by_slot[0][0] is What.RECEIVE
    assert by_slot[0].count(What.FORK) == 2
    assert by_slot[1] == [What.RECEIVE, What.BORN]
    assert [one.head for one in noted if one.process == 1] == [b"child", b""]
    # There are two slots: the third process ends, rather than write over the events of another.
    assert (done.stdout, done.stderr) == ("1\n", "more processes than slots for their events\n")
