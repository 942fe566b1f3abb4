"""The stores that processes can share, behind real servers with one and two workers."""

import os
import random
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from reference_server import State, answer
from serving import Served, read_lines, serving, wait_until
from valkeys import Valkey, need_server, running

from kvss_gevent.conformance.running.runner import grade

pytestmark = [pytest.mark.server, pytest.mark.timeout(60)]


@pytest.fixture(scope="module")
def single() -> Iterator[Valkey]:
    need_server()
    with running(1, cluster=False) as (server,):
        yield server


@pytest.fixture(scope="module")
def cluster() -> Iterator[list[Valkey]]:
    need_server()
    with running(3, cluster=True) as servers:
        yield servers


SETUPS = [("redis", 1), ("redis", 2), ("cluster", 1), ("cluster", 2), ("disk", 2)]


@pytest.fixture(scope="module", params=SETUPS, ids=lambda setup: f"{setup[0]}, {setup[1]} workers")
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    store, workers = request.param
    if store == "redis":
        url = f"redis://127.0.0.1:{request.getfixturevalue('single').port}/{workers}"
    elif store == "cluster":
        masters = request.getfixturevalue("cluster")
        for master in masters:
            master.ask("FLUSHALL")
        url = "cluster://" + ",".join(f"127.0.0.1:{master.port}" for master in masters[1:])
    else:
        url = f"disk:{tmp_path_factory.mktemp('disk') / 'data'}"
    with serving("--store", url, "--workers", str(workers)) as server:
        yield server


def test_the_conformance_table(served: Served) -> None:
    card = grade("127.0.0.1", served.port)
    assert not card.failures
    assert len(card.verdicts) > 100


DATA = b"GET a,PUT a 1,PUT b \xc3\xa9 2,DEL a,GET b,DEL b,GET c,PUT c " + b"x" * 3000
LINES = [b"KV/1.0 " + words for words in DATA.split(b",")] * 4
LINES += [b"nonsense", b"KV/1.0 GET", b"\xff", b"", b"KV/1.0 get a"]


@pytest.mark.parametrize("seed", range(6))
def test_replies_do_not_depend_on_where_the_packets_were_cut(served: Served, seed: int) -> None:
    chance = random.Random(seed)
    lines = chance.choices(LINES, k=400)
    state = State("readme")
    expected = [answer(state, line)[0] for line in lines]
    stream = b"".join(line + chance.choice([b"\n", b"\n", b"\r\n"]) for line in lines)
    with served.connect() as sock:
        sock.sendall(b"".join(b"KV/1.0 DEL %c\n" % key for key in b"abc"))
        read_lines(sock, 3)
        sender = threading.Thread(target=send_in_pieces, args=(sock, stream, chance), daemon=True)
        sender.start()
        assert read_lines(sock, len(lines)) == expected
        sender.join(5)


def send_in_pieces(sock: socket.socket, stream: bytes, chance: random.Random) -> None:
    while stream:
        size = chance.choice([1, 3, 20, 500, 9000])
        sock.sendall(stream[:size])
        stream = stream[size:]


def test_stats_tell_what_was_done_before_them_and_not_after(served: Served) -> None:
    with served.connect() as sock:
        sock.sendall(b"KV/1.0 DEL new\nKV/1.0 STATS\nKV/1.0 PUT new 1\nKV/1.0 STATS\nKV/1.0 DEL new\nKV/1.0 STATS\n")
        keys = [int(line.rpartition(b" ")[2]) for line in read_lines(sock, 6)[1::2]]
    assert keys == [keys[0], keys[0] + 1, keys[0]]


def test_clients_at_the_same_time_each_learn_what_they_did(served: Served) -> None:
    """For each key, 201s less 204s is what is left, however many clients and workers there are."""
    balance = dict.fromkeys(range(5), 0)
    lock = threading.Lock()

    def write(seed: int) -> None:
        chance = random.Random(seed)
        with served.connect() as sock:
            for _ in range(15):
                asked = [(chance.random() < 0.5, chance.randrange(5)) for _ in range(16)]
                sock.sendall(
                    b"".join((b"KV/1.0 PUT key%d 1\n" if put else b"KV/1.0 DEL key%d\n") % key for put, key in asked)
                )
                for (_, key), reply in zip(asked, read_lines(sock, 16), strict=True):
                    with lock:
                        balance[key] += {b"201 CREATED": 1, b"204 NO_CONTENT": -1}.get(reply, 0)

    threads = [threading.Thread(target=write, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    for key, left in balance.items():
        assert (served.ask(b"KV/1.0 GET key%d\n" % key) == b"200 OK 1\n") == left


@pytest.mark.full
def test_a_hung_and_a_dead_store_cost_bounded_time_and_memory() -> None:
    """Every request gets its 500 within the time limits, whatever waits behind it; afterwards all is as before."""
    need_server()
    line = b"KV/1.0 PUT k " + b"x" * 10_000 + b"\n"
    with (
        running(1, cluster=False) as (server,),
        serving("--store", f"redis://127.0.0.1:{server.port}/0", "--store-timeout", "0.3") as served,
    ):
        assert served.process.poll() is None
        assert server.process
        grown = []
        socks = [served.connect(timeout_s=10) for _ in range(20)]
        for fault, after in (*[(signal.SIGSTOP, signal.SIGCONT)] * 15, (signal.SIGKILL, None)):
            os.kill(server.process.pid, fault)
            senders = [threading.Thread(target=sock.sendall, args=(line * 200,), daemon=True) for sock in socks]
            started_s = time.monotonic()
            for sender in senders:
                sender.start()
            for sock in socks:
                assert set(read_lines(sock, 200)) == {b"500 SERVER_ERROR"}
            # Each client's lines are read in some turns, and each turn fails within three time limits.
            assert time.monotonic() - started_s < 10
            assert served.ask(b"KV/1.0 STATS\nKV/1.0 QUIT\n") == b"500 SERVER_ERROR\n200 OK bye\n"
            if after:
                os.kill(server.process.pid, after)
                wait_until(lambda: served.ask(b"KV/1.0 GET none\n") == b"404 NOT_FOUND\n")
            grown.append(served.resident_bytes())
        # A dozen faults bring the heap to its working size, some of which may have been given back since; after that
        # 40 MB of requests for each fault leave nothing.
        assert grown[-1] - max(grown[:12]) < 20 << 20
        for sock in socks:
            sock.close()
        code, log = served.stop()
    assert code == 0
    assert 1 <= len(log.splitlines()) <= 6  # told, and not for each request


def test_what_comes_while_the_store_is_waited_for_costs_nothing_and_is_answered_later(single: Valkey) -> None:
    assert single.process
    with (
        serving("--store", f"redis://127.0.0.1:{single.port}/3", "--store-timeout", "5") as served,
        served.connect(timeout_s=10) as sock,
    ):
        os.kill(single.process.pid, signal.SIGSTOP)
        try:
            sock.sendall(b"KV/1.0 PUT early 1\n")
            time.sleep(0.2)
            sock.sendall(b"KV/1.0 GET early\n")
            before_s = cpu_s(served.process.pid)
            time.sleep(1)
            # A watcher left running would wake the event loop all the time.
            assert cpu_s(served.process.pid) - before_s < 0.3
        finally:
            os.kill(single.process.pid, signal.SIGCONT)
        assert read_lines(sock, 2) == [b"201 CREATED", b"200 OK 1"]
        sock.sendall(b"KV/1.0 DEL early\n")
        assert read_lines(sock, 1) == [b"204 NO_CONTENT"]


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
