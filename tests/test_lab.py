"""BURN and SLEEP: behind --lab and nowhere else, with every model; what they keep waiting and what they do not."""

import select
import time

import pytest
from serving import Served, read_lines, serving

from kvss_gevent.core.lab_commands import Lab
from kvss_gevent.core.service import Service
from kvss_gevent.core.session import Session
from kvss_gevent.stores.memory import MemoryStore

BAD = b"400 BAD_REQUEST"


def replies(*lines: bytes, lab: bool = True) -> list[bytes]:
    session = Session(Service(MemoryStore(), lab=Lab() if lab else None))
    return session.receive(b"".join(b"KV/1.0 %s\n" % line for line in lines)).split(b"\n")[:-1]


def test_they_answer_200_among_other_requests_and_count_as_requests() -> None:
    assert replies(b"PUT k v", b"BURN 1", b"SLEEP 0.5", b"GET k") == [b"201 CREATED", b"200 OK", b"200 OK", b"200 OK v"]
    assert b"commands_processed: 2;" in replies(b"BURN 0", b"SLEEP 0", b"STATS")[2]


@pytest.mark.parametrize(
    "line", [b"BURN", b"BURN ", b"BURN x", b"BURN -1", b"BURN 1 2", b"BURN 10001", b"BURN 1e3", b"burn 1", b"NAP 1"]
)
def test_what_is_no_well_formed_lab_command_is_refused(line: bytes) -> None:
    assert replies(line, b"GET k") == [BAD, b"404 NOT_FOUND"]


def test_without_lab_they_do_not_exist() -> None:
    assert replies(b"BURN 1", b"SLEEP 1", lab=False) == [BAD, BAD]


@pytest.mark.timing
def test_burn_uses_as_much_of_a_processor_as_it_says_and_sleep_none() -> None:
    lab = Lab()
    for line, cpu_s, wall_s in ((b"KV/1.0 BURN 50\n", 0.05, 0.05), (b"KV/1.0 SLEEP 50\n", 0.0, 0.05)):
        used, begun = time.thread_time(), time.monotonic()
        assert lab.run(line) == b"200 OK\n"
        assert cpu_s <= time.thread_time() - used < cpu_s + 0.02
        assert time.monotonic() - begun >= wall_s


def waits_for(server: Served, command: bytes) -> bool:
    """Tell whether a GET that comes 50 ms after another client's lab command is answered after it."""
    with server.connect() as busy, server.connect() as other:
        other.sendall(b"KV/1.0 GET k\n")
        assert read_lines(other, 1) == [b"404 NOT_FOUND"]
        busy.sendall(b"KV/1.0 %s\n" % command)
        time.sleep(0.05)
        other.sendall(b"KV/1.0 GET k\n")
        assert read_lines(other, 1) == [b"404 NOT_FOUND"]
        answered, _, _ = select.select([busy], [], [], 0)
        assert read_lines(busy, 1) == [b"200 OK"]
    return bool(answered)


@pytest.mark.server
@pytest.mark.timing
@pytest.mark.parametrize("command", [b"BURN 500", b"SLEEP 500"])
@pytest.mark.parametrize(("model", "waits"), [("gevent", True), ("asyncio", True), ("threads", False), ("pool", False)])
def test_a_loop_waits_with_the_one_it_serves_and_threads_do_not(model: str, waits: bool, command: bytes) -> None:
    with serving("--model", model, "--lab") as server:
        assert waits_for(server, command) is waits


@pytest.mark.server
def test_the_server_says_that_it_is_a_laboratory() -> None:
    with serving("--lab", "-vv") as server:
        assert server.ask(b"KV/1.0 BURN 0\nKV/1.0 BURN x\n") == b"200 OK\n400 BAD_REQUEST\n"
        _, log = server.stop()
    assert "--lab: any client can keep this server busy" in log
    assert "lab command -> 200 OK" in log
    assert "refused -> 400 BAD_REQUEST" in log
