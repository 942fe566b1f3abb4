"""Sessions on the disk store answer GETs from the replies that it remembers: in order, and never from an old state."""

import json
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import pytest
from test_store_records import OTHER

from kvss_gevent.core.conversation import Conversation, Limits
from kvss_gevent.core.service import Service
from kvss_gevent.protocol.wire import parse_request
from kvss_gevent.stores.base import CommittingStore, Store
from kvss_gevent.stores.disk import transaction
from kvss_gevent.stores.disk.deadlines import wall_clock_ms
from kvss_gevent.stores.disk.disk_store import DiskStore
from kvss_gevent.stores.disk.gathering import gathering
from kvss_gevent.stores.memory import MemoryStore

Write = Callable[..., None]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data.kv"


class MovedClock:
    """The wall clock, later_s later."""

    later_s = 0

    def __call__(self) -> int:
        return wall_clock_ms() + 1000 * self.later_s


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
def disk(path: Path, clock: MovedClock) -> DiskStore:
    return DiskStore(path, sync="none", max_bytes=64 << 20, clock=clock)


@pytest.fixture
def store(disk: DiskStore) -> Iterator[Store]:
    gathered = gathering(disk, synced=False)
    yield gathered
    gathered.close()


@pytest.fixture
def write_elsewhere(path: Path, store: Store) -> Iterator[Write]:
    """Run request lines in another process that has the same file open."""
    with subprocess.Popen(
        [sys.executable, "-c", OTHER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin
        assert other.stdout

        def write(*lines: bytes) -> None:
            assert other.stdin
            assert other.stdout
            batch = [(int(verb), key.decode(), f"{value.decode()}\n") for verb, key, value in map(parse_request, lines)]
            other.stdin.write(json.dumps(batch) + "\n")
            other.stdin.flush()
            assert other.stdout.readline()

        yield write
        other.stdin.close()
        assert other.wait(20) == 0


def ask(session: Conversation, packet: bytes) -> bytes:
    """Send a packet and return all replies to it, without times of STATS."""

    def whole() -> bytes:
        replies = session.receive(packet)
        while session.more:
            replies += session.proceed()
        return replies

    answered: bytes = gevent.spawn(whole).get(timeout=30)
    return re.sub(rb"uptime: [^;]*; ", b"", answered)


def a_packet(chance: random.Random, most_lines: int) -> bytes:
    """Return random requests for few keys, some of them of other kinds, cut off nowhere."""
    lines = []
    for _ in range(chance.randint(1, most_lines)):
        key = chance.choice([b"a", b"b", b"c", b"d" * 200])
        value = b"v%d" % chance.randrange(10**6) + b"x" * chance.choice([0, 0, 0, 2000])
        lines.append(
            chance.choice(
                [
                    b"GET %b" % key,
                    b"GET %b" % key,
                    b"GET %b" % key,
                    b"PUT %b %b" % (key, value),
                    b"DEL %b" % key,
                    b"EXPIRE %b 1000" % key,
                    b"PERSIST %b" % key,
                    b"STATS",
                    b"NONE",
                ]
            )
        )
    return b"".join(b"KV/1.0 %b\n" % line for line in lines)


@pytest.mark.parametrize("limits", [Limits(), Limits(reply_bytes=5000), Limits(slice_lines=3)], ids=str)
def test_pipelines_are_answered_as_by_the_store_in_memory(store: Store, limits: Limits) -> None:
    chance = random.Random(5)
    disk, memory = Service(store, limits).open(), Service(MemoryStore(), limits).open()
    for number in range(1500):
        packet = a_packet(chance, 12)
        assert ask(disk, packet) == ask(memory, packet), f"packet {number}: {packet!r}"


def test_a_slice_that_large_replies_end_leaves_the_other_requests_for_the_next(store: Store) -> None:
    session = Service(store, Limits(reply_bytes=20_000)).open()
    large = b"x" * 5000
    ask(session, b"KV/1.0 PUT small 1\nKV/1.0 PUT large %b\n" % large)
    packet = b"KV/1.0 GET small\n" + b"KV/1.0 GET large\n" * 9 + b"KV/1.0 GET small\n"
    assert ask(session, packet) == b"200 OK 1\n" + b"200 OK %b\n" % large * 9 + b"200 OK 1\n"


def test_another_process_that_writes_is_seen_by_the_next_packet(store: Store, write_elsewhere: Write) -> None:
    chance = random.Random(6)
    session, model = Service(store).open(), Service(MemoryStore()).open()
    for number in range(1500):
        packet = a_packet(chance, 4).replace(b" STATS", b" GET a").replace(b"EXPIRE", b"XP").replace(b"PERSIST", b"P")
        if chance.random() < 0.3:
            write_elsewhere(
                *(line for line in packet.splitlines() if b" PUT " in line or b" DEL " in line), b"KV/1.0 GET a"
            )
            ask(model, packet)
        else:
            assert ask(session, packet) == ask(model, packet), f"packet {number}: {packet!r}"


@pytest.mark.parametrize("key", [b"a", b"k" * 300], ids=len)
def test_a_reply_that_another_process_made_old_is_not_given(store: Store, write_elsewhere: Write, key: bytes) -> None:
    session = Service(store).open()
    request = b"KV/1.0 GET %b\n" % key
    for value in (b"1", b"2", b"3"):
        ask(session, b"KV/1.0 PUT %b old\n" % key)
        assert ask(session, request) == b"200 OK old\n"
        assert request in store.replies
        write_elsewhere(b"KV/1.0 PUT %b %b" % (key, value))
        assert ask(session, request) == b"200 OK %b\n" % value
        assert ask(session, request + request) == b"200 OK %b\n" % value * 2


@pytest.mark.parametrize(
    "packets", [(b"KV/1.0 GET a\r\n",), (b"KV/1.0 G", b"ET a\n"), (b"KV/1.0 GET b\nKV/1.0 G", b"ET a\n")], ids=str
)
def test_a_line_that_does_not_come_whole_and_plain_is_not_answered_from_an_old_state(
    store: Store, write_elsewhere: Write, packets: tuple[bytes, ...]
) -> None:
    session = Service(store).open()
    ask(session, b"KV/1.0 PUT a old\n")
    for packet in packets[:-1]:
        ask(session, packet)
    write_elsewhere(b"KV/1.0 PUT a new")
    assert ask(session, packets[-1]) == b"200 OK new\n"


def test_a_write_is_seen_by_others_at_once_and_by_other_processes_before_it_is_acknowledged(
    store: Store, write_elsewhere: Write, path: Path
) -> None:
    service = Service(store)
    writer, reader = service.open(), service.open()
    assert isinstance(store, CommittingStore)
    assert writer.receive(b"KV/1.0 PUT a 1\nKV/1.0 GET a\n") == b"201 CREATED\n200 OK 1\n"
    assert reader.receive(b"KV/1.0 GET a\nKV/1.0 GET b\nKV/1.0 STATS\n").startswith(b"200 OK 1\n404 NOT_FOUND\n200 OK")
    assert reader.receive(b"KV/1.0 PUT a 2\n") == b"200 OK\n"
    assert store.commit()
    write_elsewhere(b"KV/1.0 DEL a")
    assert writer.receive(b"KV/1.0 GET a\n") == b"404 NOT_FOUND\n"


def test_requests_of_a_packet_are_run_in_their_order_for_others_too(store: Store) -> None:
    """Of two clients that each write one key and then read the other's, at least one must see the other's write."""
    service = Service(store)
    one, other = service.open(), service.open()
    ask(one, b"KV/1.0 PUT x old\nKV/1.0 PUT y old\nKV/1.0 GET x\nKV/1.0 GET y\n")
    seen = []

    def client(session: Conversation, mine: bytes, theirs: bytes) -> None:
        seen.append(session.receive(b"KV/1.0 PUT %b new\nKV/1.0 GET %b\n" % (mine, theirs)))

    both = [gevent.spawn(client, one, b"x", b"y"), gevent.spawn(client, other, b"y", b"x")]
    gevent.joinall(both, timeout=30, raise_error=True)
    assert b"200 OK\n200 OK new\n" in seen


def test_a_file_that_must_not_be_read_is_answered_500_for_remembered_keys_too(store: Store, disk: DiskStore) -> None:
    session = Service(store).open()
    ask(session, b"KV/1.0 PUT a 1\n")
    assert ask(session, b"KV/1.0 GET a\n") == b"200 OK 1\n"
    disk.environment.lost, disk.environment.unreadable = "it was cut off", True
    assert ask(session, b"KV/1.0 GET a\n") == b"500 SERVER_ERROR\n"


def test_reads_alone_remember_a_bounded_number(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transaction, "RECENT_REPLIES", 10)
    session = Service(store).open()
    ask(session, b"".join(b"KV/1.0 PUT %d %d\n" % (number, number) for number in range(100)))
    ask(session, b"KV/1.0 PUT large %b\n" % (b"x" * 5000))
    for number in range(100):
        assert ask(session, b"KV/1.0 GET %d\n" % number) == b"200 OK %d\n" % number
        assert b"KV/1.0 GET %d\n" % number in store.replies
        assert ask(session, b"KV/1.0 GET large\n") == b"200 OK " + b"x" * 5000 + b"\n"
        assert len(store.replies) <= 12


def test_deletes_and_writes_of_nothing_do_not_make_all_be_forgotten(store: Store) -> None:
    session = Service(store).open()
    ask(session, b"KV/1.0 PUT a 1\nKV/1.0 PUT b 1\n")
    for packet in (b"KV/1.0 DEL b\n", b"KV/1.0 DEL none\n", b"KV/1.0 EXPIRE none 5\n", b"KV/1.0 PUT c 1\n"):
        ask(session, packet)
        assert ask(session, b"KV/1.0 GET none\n") == b"404 NOT_FOUND\n"
        assert b"KV/1.0 GET a\n" in store.replies, packet


@pytest.mark.parametrize("read_first", [True, False])
def test_a_deadline_that_another_process_has_set_does_not_end_the_value_that_follows(
    store: Store, path: Path, write_elsewhere: Write, clock: MovedClock, read_first: bool
) -> None:
    session = Service(store).open()
    ask(session, b"KV/1.0 PUT b 1\nKV/1.0 PUT b 2\n")
    write_elsewhere(b"KV/1.0 PUTEX 1000 a old")
    if read_first:
        ask(session, b"KV/1.0 GET c\n")
    assert ask(session, b"KV/1.0 DEL a\n") == b"204 NO_CONTENT\n"
    ask(session, b"KV/1.0 PUT a new\n")
    store.close()
    clock.later_s = 2000
    again = gathering(DiskStore(path, sync="none", clock=clock), synced=False)
    session = Service(again).open()
    ask(session, b"KV/1.0 PUT c 1\n")  # its transaction deletes what has ended
    assert ask(session, b"KV/1.0 GET a\n") == b"200 OK new\n"
    again.close()
