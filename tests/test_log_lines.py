"""What others say cannot look like a line of the log, nor steer a terminal."""

import io
import json
import logging
import socket
from pathlib import Path

import pytest
from serving import serving, wait_until

from kvss_gevent.core.password_hash import hash_password
from kvss_gevent.core.service import Service
from kvss_gevent.core.user_file import Role, User, change_users
from kvss_gevent.server.accepting.admission import Admission
from kvss_gevent.server.client_memory import ClientMemory
from kvss_gevent.server.connection import Connection
from kvss_gevent.server.transport import plain
from kvss_gevent.settings.config import Config
from kvss_gevent.settings.log import MOST_REPEATS, NOTICE, REPEATS_S, BoundedHandler, JsonFormatter, TextFormatter
from kvss_gevent.stores.base import StoreError
from kvss_gevent.stores.memory import MemoryStore

FORGED = "x\n2026-01-01 00:00:00,000 NOTICE stopped by SIGTERM\r\x1b[2J\u202e\x85\u2028y"


def record(*, is_error: bool) -> logging.LogRecord:
    try:
        raise ValueError(FORGED)
    except ValueError as error:
        found = (type(error), error, error.__traceback__) if is_error else None
        return logging.LogRecord("kvss", logging.ERROR, "", 1, "said: %s", (FORGED,), found)


@pytest.mark.parametrize("is_error", [False, True], ids=["message", "traceback"])
def test_a_text_line(is_error: bool) -> None:
    first, *others = TextFormatter().format(record(is_error=is_error)).split("\n")
    assert "said: x\\n2026" in first
    assert all(line.startswith("  ") for line in others)
    assert bool(others) == is_error
    assert all(line.isprintable() for line in (first, *others))


@pytest.mark.parametrize("is_error", [False, True], ids=["message", "traceback"])
def test_a_json_line(is_error: bool) -> None:
    line = JsonFormatter().format(record(is_error=is_error))
    assert line.isprintable()
    assert json.loads(line)["message"] == f"said: {FORGED}"


class Bounded:
    """A log with a clock that a test sets, as a list of its lines."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._written = io.StringIO()
        self.handler = BoundedHandler(self._written, lambda: self.now_s)

    def log(self, level: int, form: str, number: int, **extra: object) -> list[str]:
        """Log lines of one form, and return what was written."""
        for at in range(number):
            self.handler.handle(logging.makeLogRecord({"levelno": level, "msg": form, "args": (at,), **extra}))
        return self.lines()

    def lines(self) -> list[str]:
        """Return what was written since the last call."""
        lines = self._written.getvalue().splitlines()
        self._written.seek(0)
        self._written.truncate()
        return lines


def test_a_client_that_causes_error_after_error_does_not_fill_the_log() -> None:
    bounded = Bounded()
    assert len(bounded.log(logging.ERROR, "failed: %d", MOST_REPEATS + 7)) == MOST_REPEATS
    assert len(bounded.log(logging.WARNING, "another: %d", 3)) == 3
    for level in (logging.INFO, NOTICE):
        assert len(bounded.log(level, "wanted: %d", MOST_REPEATS + 7)) == MOST_REPEATS + 7
    bounded.now_s = REPEATS_S
    assert bounded.log(logging.ERROR, "failed: %d", 1) == ["left out 7 lines such as: failed: 100", "failed: 0"]
    assert bounded.log(logging.WARNING, "another: %d", 1) == ["another: 0"]


def test_a_line_may_ask_for_a_stricter_bound() -> None:
    bounded = Bounded()
    assert bounded.log(logging.WARNING, "stranger: %d", 3, interval_s=10.0) == ["stranger: 0"]
    bounded.now_s = 10.0
    assert bounded.log(logging.WARNING, "stranger: %d", 3, interval_s=10.0) == [
        "left out 2 lines such as: stranger: 1",
        "stranger: 0",
    ]


def test_what_was_left_out_is_told_with_any_line_after_the_interval() -> None:
    bounded = Bounded()
    bounded.log(logging.WARNING, "stranger: %d", 3, interval_s=10.0)
    assert bounded.log(NOTICE, "wanted: %d", 1) == ["wanted: 0"]
    bounded.now_s = 10.0
    assert bounded.log(NOTICE, "wanted: %d", 2) == ["left out 2 lines such as: stranger: 1", "wanted: 0", "wanted: 1"]


def test_what_clients_can_cause_at_any_rate_is_one_line_in_ten_seconds() -> None:
    bounded = Bounded()
    logger = logging.getLogger("kvss")
    logger.addHandler(bounded.handler)
    service, admission = Service(MemoryStore()), Admission(Config)
    memory = ClientMemory(lambda: 1)
    with socket.socket() as sock:
        for _ in range(3):
            service.fault_reply(StoreError("the disk is full"))
            admission.refuse(socket.socket(), "too many clients")
            memory.note(Connection(sock, plain(sock), service.open(), ("127.0.0.1", 1)), 2)
    logger.removeHandler(bounded.handler)
    bounded.now_s = 10.0
    assert len(bounded.lines()) == 3
    told = bounded.log(NOTICE, "wanted: %d", 1)
    assert [line.partition(":")[0] for line in told[:-1]] == ["left out 2 lines such as"] * 3


@pytest.mark.parametrize("workers", [1, 2])
def test_what_was_left_out_is_told_before_the_last_line(workers: int, tmp_path: Path) -> None:
    with serving("--workers", f"{workers}", "--store", f"disk:{tmp_path / 'data'}") as server:
        for _ in range(5):
            with server.connect() as client:
                client.sendall(b"GET / HTTP/1.1\r\n\r\n")
                assert client.recv(1000)
        server.stop()
        *before, last = [line for line in server.logged().splitlines() if "it speaks HTTP" in line or "stopped" in line]
    assert "left out" in before[-1]
    assert " NOTICE stopped by SIGTERM; " in last


@pytest.mark.parametrize("more", [(), ("-vv",), ("--flight-recorder", "5"), ("--users", "users.txt")])
def test_a_client_of_another_protocol_is_told_whatever_else_is_recorded(more: tuple[str, ...], tmp_path: Path) -> None:
    change_users(tmp_path / "users.txt", "ann", User("ann", Role.READ, hash_password(b"x")))
    with serving(*more, prefix=("env", "-C", str(tmp_path))) as server:
        assert server.ask(b"\x16\x03\x01") == b"426 UPGRADE_REQUIRED\n"
        wait_until(lambda: "it speaks TLS and not KV/1.0" in server.logged())


def test_what_was_left_out_is_told_at_the_end_though_no_last_line_is_shown() -> None:
    bounded = Bounded()
    bounded.log(logging.WARNING, "stranger: %d", 3, interval_s=10.0)
    bounded.handler.close()
    assert bounded.lines() == ["left out 2 lines such as: stranger: 1"]
