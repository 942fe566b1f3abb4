"""Verification finds planted faults, each under its own name; a right server has none."""

from collections.abc import Callable
from pathlib import Path

import pytest
from load_runs import run
from load_servers import Answer, right, serving

from kvss_gevent.loadtest.engine.request_stream import NOT_KV
from kvss_gevent.loadtest.workload.proving_values import LOST, STALE, TORN, WRONG_KEY

pytestmark = pytest.mark.server

Data = dict[bytes, bytes]


def every(count: int, verb: bytes, fault: Callable[[Data, list[bytes]], bytes]) -> Answer:
    """Return an answer that is faulty once in `count` requests of a verb; keys loaded first are left alone."""
    seen = 0

    def answer(data: Data, words: list[bytes]) -> bytes:
        nonlocal seen
        if words[1:2] == [verb] and b".L " not in words[-1]:
            seen += 1
            if seen % count == 0:
                return fault(data, words)
        return right(data, words)

    return answer


def swapped(data: Data, words: list[bytes]) -> bytes:
    other = next(key for key in data if key != words[2])
    return b"200 OK " + data[other]


def lost_write(data: Data, words: list[bytes]) -> bytes:
    return b"200 OK" if words[2] in data else b"201 CREATED"


def torn(data: Data, words: list[bytes]) -> bytes:
    return right(data, words)[:-1] + b"~" if words[2] in data else right(data, words)


def stale_reads() -> Answer:
    """Return an answer that now and then reads the value before the last."""
    before: Data = {}
    seen = 0

    def answer(data: Data, words: list[bytes]) -> bytes:
        nonlocal seen
        if words[1:2] == [b"PUT"] and words[2] in data:
            before[words[2]] = data[words[2]]
        if words[1:2] == [b"GET"] and words[2] in before and words[2] in data:
            seen += 1
            if seen % 50 == 0:
                return b"200 OK " + before[words[2]]
        return right(data, words)

    return answer


FAULTS: list[tuple[str, Answer, set[str]]] = [
    ("stale read", stale_reads(), {STALE}),
    ("swapped value", every(500, b"GET", swapped), {WRONG_KEY}),
    ("lost write", every(100, b"PUT", lost_write), {STALE, LOST}),
    ("forgotten key", every(200, b"GET", lambda *_: b"404 NOT_FOUND"), {LOST}),
    ("torn value", every(500, b"GET", torn), {TORN}),
    ("one refusal in 10,000", every(10_000, b"GET", lambda *_: b"500 SERVER_ERROR"), {"500 SERVER_ERROR"}),
    ("one wrong reply in 10,000", every(10_000, b"GET", swapped), {WRONG_KEY}),
    ("no KV/1.0", every(500, b"GET", lambda *_: b"HTTP/1.1 200 OK"), {NOT_KV}),
]


@pytest.mark.full
@pytest.mark.parametrize(("answer", "names"), [fault[1:] for fault in FAULTS], ids=[fault[0] for fault in FAULTS])
def test_a_planted_fault_is_found(
    answer: Answer, names: set[str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    seconds = "3" if "10,000" in request.node.name else "1"
    with serving(answer) as port:
        done = run(port, "-u", "4", "-t", seconds, "--kv-warmup", "0s", "--kv-keys", "500", out=tmp_path)
    assert done.code == 1
    assert set(done.results["failures"]) & names
    assert set(done.results["failures"]) <= names
    assert done.results["requests"]["failed"] == sum(done.results["failures"].values())


def test_a_right_server_has_no_failure(tmp_path: Path) -> None:
    with serving() as port:
        done = run(
            port,
            "-u",
            "8",
            "-t",
            "2",
            "--kv-warmup",
            "0s",
            "--kv-keys",
            "20",
            "--kv-mix",
            "50:40:10",
            "--kv-depth",
            "3",
            out=tmp_path,
        )
    assert done.results["failures"] == {}
    assert done.code == 0
    assert done.results["requests"]["answered"] > 1000
