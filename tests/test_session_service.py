"""What a session makes of its service: batches of the store and its faults, the log, STATS."""

import logging

import pytest
from plain_stores import BatchStore, FailingMemoryStore, FailingStore
from session_calls import feed

from kvss_gevent.core.conversation import Limits
from kvss_gevent.core.logged_conversation import logged
from kvss_gevent.core.service import Service
from kvss_gevent.core.session import Session
from kvss_gevent.stores.base import Store
from kvss_gevent.stores.memory import MemoryStore


def test_a_batch_is_one_call_to_the_store() -> None:
    store = BatchStore()
    feed(Session(Service(store)), b"KV/1.0 PUT a 1\nnonsense\nKV/1.0 GET a\nKV/1.0 DEL a\n")
    assert [len(batch) for batch in store.batches] == [1, 2], "a refused line stands between"


def test_a_store_that_fails_costs_its_batch_and_recovers(caplog: pytest.LogCaptureFixture) -> None:
    store = FailingStore()
    session = Session(Service(store))
    with caplog.at_level(logging.ERROR, "kvss"):
        out = feed(session, b"KV/1.0 PUT a 1\nKV/1.0\nKV/1.0 GET a\n", b"KV/1.0 GET a\n")
    assert out == b"500 SERVER_ERROR\n400 BAD_REQUEST\n500 SERVER_ERROR\n500 SERVER_ERROR\n"
    assert set(caplog.messages) == {"the store failed: the disk is full"}
    store.fault = None
    assert feed(session, b"KV/1.0 GET a\n") == b"404 NOT_FOUND\n"


def test_lines_that_failed_are_not_run_a_second_time(caplog: pytest.LogCaptureFixture) -> None:
    store = FailingStore()
    session = Session(Service(store))
    requests = b"KV/1.0 PUT a 1\nKV/1.0 GET a\nKV/1.0 DEL a\nKV/1.0 STATS\n"
    replies = feed(session, requests, b"KV/1.0 GET a\n").split(b"\n")
    assert replies[:3] == [b"500 SERVER_ERROR"] * 3
    assert b"commands_processed: 3; get_requests: 1; put_requests: 1; del_requests: 1;" in replies[3]
    assert replies[4:] == [b"500 SERVER_ERROR", b""]
    assert store.batches == []
    assert set(caplog.messages) == {"the store failed: the disk is full"}
    store.fault = None
    assert feed(session, b"KV/1.0 PUT a 1\nKV/1.0 GET a\n") == b"201 CREATED\n200 OK 1\n"


def stores_that_break() -> list[Store]:
    planted = ZeroDivisionError("planted")
    broken = FailingStore()
    broken.fault = planted
    return [broken, FailingMemoryStore()]


@pytest.mark.parametrize("store", stores_that_break(), ids=["batch", "table"])
def test_a_mistake_in_a_store_is_a_500_with_a_traceback_in_the_log(store, caplog: pytest.LogCaptureFixture) -> None:
    session = Session(Service(store))
    assert feed(session, b"KV/1.0 PUT a 1\nKV/1.0 PUT b 1\n") == b"500 SERVER_ERROR\n500 SERVER_ERROR\n"
    assert caplog.records
    assert all(record.exc_info for record in caplog.records)


def test_a_full_memory_store_refuses_put_and_nothing_else() -> None:
    session = Session(Service(MemoryStore(max_bytes=1000)))
    out = feed(
        session, b"KV/1.0 PUT a " + b"x" * 600 + b"\nKV/1.0 PUT b " + b"x" * 600 + b"\nKV/1.0 GET a\nKV/1.0 DEL a\n"
    )
    assert out.split(b"\n")[:2] == [b"201 CREATED", b"500 SERVER_ERROR"]
    assert out.endswith(b"204 NO_CONTENT\n")
    assert feed(session, b"KV/1.0 PUT b " + b"x" * 600 + b"\n") == b"201 CREATED\n"


@pytest.mark.parametrize("store", [MemoryStore(), BatchStore()], ids=["table", "batch"])
def test_a_traced_session_logs_requests_and_codes_and_no_value(store, caplog: pytest.LogCaptureFixture) -> None:
    session = Service(store, Limits(slice_lines=2), converse=logged).open()
    with caplog.at_level(logging.DEBUG, "kvss"):
        feed(session, b"KV/1.0 PUT a secret\nKV/1.0 GET a\nKV/1.0 G", b"ET a\n", b"my password\nKV/1.0 STATS\r\n")
    assert caplog.messages == [
        "PUT 'a' -> 201",
        "GET 'a' -> 200",
        "GET 'a' -> 200",
        "refused -> 426 UPGRADE_REQUIRED",
        "STATS -> 200",
    ]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0:00:00"),
        (323, "0:05:23"),
        (36_000, "10:00:00"),
        (86_400, "1 day, 0:00:00"),
        (3 * 86_400 + 59, "3 days, 0:00:59"),
    ],
)
def test_uptime(seconds: int, shown: str) -> None:
    service = Service(MemoryStore())
    service.stats.started_s -= seconds
    assert feed(Session(service), b"KV/1.0 STATS\n").startswith(f"200 OK uptime: {shown}; connections: 0;".encode())


def test_lab_stats() -> None:
    service = Service(MemoryStore(), stats_format="lab")
    service.stats.started_s -= 323
    assert feed(Session(service), b"KV/1.0 PUT a 1\n" * 5 + b"KV/1.0 STATS\n").endswith(
        b"\n200 OK keys=1 uptime=323s served=6\n"
    )


def test_a_service_makes_the_conversations_that_it_was_told_to_make() -> None:
    made = []

    class Other(Session):
        def __init__(self, service: Service) -> None:
            super().__init__(service)
            made.append(self)

    service = Service(MemoryStore(), converse=Other)
    assert service.open() is made[0]
    assert type(Service(MemoryStore()).open()) is Session
