"""loadtest/traffic.py: lines are KV/1.0, replies are judged by their ticket."""

from random import Random
from uuid import uuid4

import pytest

from kvss_gevent.loadtest.engine.recorder import SERIES
from kvss_gevent.loadtest.engine.request_stream import NOT_KV, RequestStream
from kvss_gevent.loadtest.workload import keys
from kvss_gevent.loadtest.workload.mix import Op, Workload, parse_mix, parse_sizes
from kvss_gevent.loadtest.workload.proving_values import LOST, STALE, Ledger
from kvss_gevent.loadtest.workload.shared_columns import SharedColumns
from kvss_gevent.protocol.wire import Verb, parse_request


def traffic(
    loaded: bool = True, verify: bool = True, worker: int = 0, workers: int = 1, run: str = ""
) -> RequestStream:
    """Return a process's requests; with the name of a run, of one that shares columns with its other processes."""
    shared = SharedColumns(run, 100, worker, workers) if run else None
    ledger = Ledger(100, b"0a1b2c3d", (worker, workers), loaded, shared)
    ledger.verifies = verify
    workload = Workload(parse_mix("80:15:5"), keys.parse("uniform"))
    return RequestStream(workload, parse_sizes("100"), 100, Random(1), ledger)


def judged(user: RequestStream, op: int, key: int, reply: bytes) -> tuple[str, str, str]:
    _, ticket = user.prepare(op, key)
    series, failure = user.judge(ticket, reply)
    return (*SERIES[series], failure)


def test_lines_are_requests() -> None:
    user = traffic()
    for op, verb in ((Op.GET, Verb.GET), (Op.PUT, Verb.PUT), (Op.DEL, Verb.DEL)):
        line, _ = user.prepare(op, 7)
        request = parse_request(line.removesuffix(b"\n"))
        assert isinstance(request, tuple)
        assert request[:2] == (verb, b"user7")
        assert (len(request[2]) == 100) == (verb is Verb.PUT)


def test_what_was_put_is_what_may_be_read() -> None:
    user = traffic()
    line, ticket = user.prepare(Op.PUT, 7)
    assert user.judge(ticket, b"200 OK") == (SERIES.index(("PUT", "hit")), "")
    value = line.split(b" ", 3)[3].rstrip(b"\n")
    assert judged(user, Op.GET, 7, b"200 OK " + value) == ("GET", "hit", "")
    assert judged(user, Op.GET, 8, b"404 NOT_FOUND") == ("GET", "error", LOST)
    user.judge(user.prepare(Op.PUT, 7)[1], b"200 OK")
    assert judged(user, Op.GET, 7, b"200 OK " + value) == ("GET", "error", STALE)


def test_a_reply_known_by_heart_is_still_stale_once_it_is_superseded() -> None:
    user = traffic()
    line, ticket = user.prepare(Op.PUT, 7)
    user.judge(ticket, b"200 OK")
    reply = b"200 OK " + line.split(b" ", 3)[3].rstrip(b"\n")
    assert user.ledger.proven[7] == hash(reply)
    deletion = user.prepare(Op.DEL, 7)[1]
    user.judge(deletion, b"204 NO_CONTENT")
    assert judged(user, Op.GET, 7, reply) == ("GET", "error", STALE)


def test_a_miss_is_no_failure() -> None:
    user = traffic(loaded=False)
    assert judged(user, Op.GET, 7, b"404 NOT_FOUND") == ("GET", "miss", "")
    assert judged(user, Op.DEL, 7, b"404 NOT_FOUND") == ("DEL", "miss", "")
    assert judged(user, Op.DEL, 7, b"204 NO_CONTENT") == ("DEL", "hit", "")


def test_deleting_twice_misses_and_deleting_what_is_there_must_not() -> None:
    user = traffic()
    assert judged(user, Op.DEL, 7, b"404 NOT_FOUND") == ("DEL", "error", LOST)
    assert judged(user, Op.DEL, 7, b"404 NOT_FOUND") == ("DEL", "miss", "")


@pytest.mark.parametrize("op", [Op.GET, Op.PUT, Op.DEL, Op.INSERT])
def test_errors_have_names(op: Op) -> None:
    command = "PUT" if op is Op.INSERT else op.name
    assert judged(traffic(), op, 7, b"500 SERVER_ERROR") == (command, "error", "500 SERVER_ERROR")
    assert judged(traffic(), op, 7, b"400 BAD_REQUEST") == (command, "error", "400 BAD_REQUEST")
    assert judged(traffic(), op, 7, b"HTTP/1.1 200 OK") == (command, "error", NOT_KV)


def test_a_write_that_got_500_may_have_taken_effect() -> None:
    user = traffic()
    user.judge(user.prepare(Op.DEL, 7)[1], b"500 SERVER_ERROR")
    assert judged(user, Op.GET, 7, b"404 NOT_FOUND") == ("GET", "miss", "")


def test_inserts_are_new_keys_and_later_reads_stay_with_this_process() -> None:
    user = traffic(worker=1, workers=2)
    line, ticket = user.prepare(Op.INSERT, 0)
    assert b" user101 " in line
    assert user.judge(ticket, b"201 CREATED")[1] == ""
    assert user.ledger.newest() == 101
    assert user.prepare(Op.GET, 102)[0] == b"KV/1.0 GET user101\n"


def test_without_verification_any_value_will_do() -> None:
    user = traffic(verify=False)
    assert judged(user, Op.GET, 7, b"200 OK whatever") == ("GET", "hit", "")
    assert judged(user, Op.GET, 7, b"404 NOT_FOUND") == ("GET", "miss", "")
    assert len(user.prepare(Op.PUT, 7)[0]) == len(b"KV/1.0 PUT user7 \n") + 100


@pytest.mark.parametrize("every", [1, 7, 30])
def test_each_of_two_processes_finds_every_value_that_a_server_has_lost(every: int) -> None:
    run = uuid4().hex
    both = [traffic(worker=worker, workers=2, run=run) for worker in range(2)]
    held: dict[int, bytes] = {}
    for key in range(100):
        writer = both[key % 2]
        line, expectation = writer.prepare(Op.PUT, key)
        assert writer.judge(expectation, b"200 OK")[1] == ""
        held[key] = b"200 OK " + line.split(b" ", 3)[3].rstrip(b"\n")
    lost = set(range(0, 100, every))
    for reader in both:
        found = {
            key
            for key in range(100)
            if judged(reader, Op.GET, key, b"404 NOT_FOUND" if key in lost else held[key])[2] == LOST
        }
        assert found == lost
