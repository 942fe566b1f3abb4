"""`kvss serve --store disk:` from outside: the conformance table, restarts, disks that fail and recover, draining."""

import re
import resource
from pathlib import Path

import pytest
from serving import read_lines, serving, wait_until

from kvss_gevent.conformance.case_plan import Plan
from kvss_gevent.conformance.running.runner import grade
from kvss_gevent.conformance.stats_forms import README

pytestmark = pytest.mark.server

SYNCS = ("always", "interval", "none")


@pytest.mark.parametrize("sync", ["always", pytest.param("interval", marks=pytest.mark.full), "none"])
def test_it_conforms(sync: str, tmp_path: Path) -> None:
    with serving("--store", f"disk:{tmp_path / 'data.kv'}", "--sync", sync) as server:
        card = grade("127.0.0.1", server.port, Plan(timeout_s=6.0))  # a thousand PUTs in turn, each synced
    assert [(verdict.case.id, verdict) for verdict in card.failures] == []
    assert card.points > 100
    assert card.stats_form == README


@pytest.mark.parametrize("sync", SYNCS)
@pytest.mark.parametrize("end", ["SIGTERM", "SIGKILL"])
def test_what_was_stored_is_there_after_a_restart(sync: str, end: str, tmp_path: Path) -> None:
    flags = ("--store", f"disk:{tmp_path / 'data.kv'}", "--sync", sync)
    with serving(*flags) as server:
        assert (
            server.ask(b"KV/1.0 PUT a 1\nKV/1.0 PUT b 2\nKV/1.0 DEL b\n")
            == b"201 CREATED\n201 CREATED\n204 NO_CONTENT\n"
        )
        if end == "SIGTERM":
            assert server.stop() == (0, "")
        else:
            server.process.kill()
            server.process.wait(30)
    with serving(*flags) as server:
        replies = server.ask(b"KV/1.0 GET a\nKV/1.0 GET b\nKV/1.0 STATS\n").splitlines()
        assert replies[:2] == [b"200 OK 1", b"404 NOT_FOUND"]
        assert replies[2].endswith(b"keys_stored: 1")


def test_the_variables_choose_the_store_too(tmp_path: Path) -> None:
    env = {"KVSS_STORE": f"disk:{tmp_path / 'data.kv'}", "KVSS_SYNC": "none", "KVSS_MAX_DISK": "2M"}
    with serving(env=env) as server:
        assert server.ask(b"KV/1.0 PUT a " + b"x" * 100_000 + b"\n") == b"201 CREATED\n"
    assert (tmp_path / "data.kv").stat().st_size > 100_000


def test_past_max_memory_put_is_refused_and_room_freed_is_room_again() -> None:
    with serving("--max-memory", "64K") as server:
        put = b"KV/1.0 PUT %s " + b"x" * 40_000 + b"\n"
        requests = put % b"a" + put % b"b" + b"KV/1.0 GET b\nKV/1.0 DEL a\n" + put % b"b"
        assert server.ask(requests).splitlines() == [
            b"201 CREATED",
            b"500 SERVER_ERROR",
            b"404 NOT_FOUND",
            b"204 NO_CONTENT",
            b"201 CREATED",
        ]


def test_past_max_disk_put_is_refused_get_and_del_go_on_and_room_freed_is_room_again(tmp_path: Path) -> None:
    with serving("--store", f"disk:{tmp_path / 'data.kv'}", "--max-disk", "1M") as server:
        put = b"KV/1.0 PUT %d " + b"x" * 100_000 + b"\n"
        replies = server.ask(b"".join(put % number for number in range(20))).splitlines()
        stored = replies.count(b"201 CREATED")
        assert 5 <= stored < 11
        assert replies == [b"201 CREATED"] * stored + [b"500 SERVER_ERROR"] * (20 - stored)
        assert server.ask(b"KV/1.0 GET 0\n") == b"200 OK " + b"x" * 100_000 + b"\n"
        assert server.ask(b"KV/1.0 DEL 0\nKV/1.0 DEL 1\n") == b"204 NO_CONTENT\n" * 2
        assert server.ask(put % 50) == b"201 CREATED\n"
        _, log = server.stop()
    assert len(re.findall("writes get 500, reads go on: the store is full: --max-disk allows 1048576 bytes", log)) == 1
    assert "the store failed" not in log
    assert (tmp_path / "data.kv").stat().st_size <= 1 << 20


def test_a_disk_that_takes_no_more_refuses_writes_once_in_the_log_and_recovers(tmp_path: Path) -> None:
    with serving("--store", f"disk:{tmp_path / 'data.kv'}") as server:
        assert server.ask(b"KV/1.0 PUT a 1\n") == b"201 CREATED\n"
        # As a full disk does, the kernel now refuses every write behind this point.
        hard = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (8192, hard))
        for _ in range(3):
            assert server.ask(b"KV/1.0 PUT b 1\nKV/1.0 GET a\nKV/1.0 GET b\n").splitlines() == [
                b"500 SERVER_ERROR",
                b"200 OK 1",
                b"404 NOT_FOUND",
            ]
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
        assert server.ask(b"KV/1.0 PUT b 1\n") == b"201 CREATED\n"
        _, log = server.stop()
    assert [line.split(": ", 2)[1].split(",")[0] for line in log.splitlines()] == [
        "writes get 500",
        "writes work again",
    ]


def test_what_was_read_before_the_end_is_answered_and_kept(tmp_path: Path) -> None:
    flags = ("--store", f"disk:{tmp_path / 'data.kv'}")
    with serving(*flags) as server:
        socks = [server.connect() for _ in range(20)]
        wait_until(lambda: b"connections: 21;" in server.ask(b"KV/1.0 STATS\n"))  # none waits to be accepted
        for number, sock in enumerate(socks):
            sock.sendall(b"".join(b"KV/1.0 PUT %d-%d x\n" % (number, key) for key in range(50)))
        server.process.terminate()
        for sock in socks:
            assert read_lines(sock, 50) == [b"201 CREATED"] * 50
            assert sock.recv(1) == b""
            sock.close()
        assert server.process.wait(30) == 0
    with serving(*flags) as server:
        assert server.ask(b"KV/1.0 STATS\n").endswith(b"keys_stored: 1000\n")


def test_a_client_that_leaves_while_its_write_waits_harms_nobody(tmp_path: Path) -> None:
    with serving("--store", f"disk:{tmp_path / 'data.kv'}") as server:
        for number in range(50):
            with server.connect() as sock:
                sock.sendall(b"KV/1.0 PUT %d x\n" % number)
        wait_until(lambda: server.ask(b"KV/1.0 STATS\n").endswith(b"keys_stored: 50\n"))
        assert server.stop() == (0, "")


def test_a_store_in_use_is_shared_by_a_second_server(tmp_path: Path) -> None:
    flags = ("--store", f"disk:{tmp_path / 'data.kv'}")
    with serving(*flags) as one, serving(*flags) as two:
        for number in range(20):
            value = b"%d" % number
            assert one.ask(b"KV/1.0 PUT a %s\n" % value).startswith(b"20")
            assert two.ask(b"KV/1.0 GET a\n") == b"200 OK %s\n" % value
