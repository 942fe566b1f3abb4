"""What a person reads of a conversation that passes a tap: times, requests and replies, and no password."""

import re
import tracemalloc

import pytest
from serving import read_lines
from tapping import answer, finish, tapping, target

from kvss_gevent.wire_tools.dialogue import MAX_OPEN, Dialogue
from kvss_gevent.wire_tools.tcp_frames import Way


def test_a_conversation_is_shown_with_times() -> None:
    with target(answer) as port, tapping(port) as tap:
        with tap.connect() as sock:
            sock.sendall(b"KV/1.0 GET a\nKV/1.0 GET b\n")
            assert read_lines(sock, 2) == [b"200 OK a", b"200 OK b"]
            finish(sock)
        _, out, _ = tap.stop()
    lines = [re.sub(r"^\d\d:\d\d:\d\d\.\d{6} 127\.0\.0\.1:\d+ ", "", line) for line in out.splitlines()]
    assert lines[0] == "connected"
    assert re.fullmatch(r"GET a -> 200 OK a  \d+ us", lines[1])
    assert re.fullmatch(r"GET b -> 200 OK b  \d+ us", lines[2])
    assert lines[-1] == "closed"


def test_a_password_is_not_shown_and_a_request_without_reply_is() -> None:
    talk = Dialogue("me")
    assert talk.heard(Way.TO_SERVER, 0, b"KV/1.0 AUTH ann secret word\nKV/1.0 GET a\nKV/1.0 GE") == []
    (shown,) = talk.heard(Way.TO_CLIENT, 5000, b"200 OK authenticated\r\n")
    assert shown.endswith("me AUTH ann (password not shown) -> 200 OK authenticated  5 us")
    left, over = talk.ended(9000, "closed")
    assert left.endswith("me GET a -> no reply")
    assert over.endswith("me closed, and 'KV/1.0 GE' had no line feed")
    assert "cannot be read" in Dialogue("me").heard(Way.TO_SERVER, 0, b"\x16\x03\x01")[0]


@pytest.mark.parametrize("version", [b"KV/1.0 ", b""])
def test_a_password_is_not_shown_without_its_line_feed_or_version(version: bytes) -> None:
    talk = Dialogue("me")
    talk.heard(Way.TO_SERVER, 0, version + b"AUTH ann secret\n" + version + b"AUTH ann secret")
    assert "secret" not in "".join(talk.ended(0, "closed"))


def test_open_requests_take_little_memory() -> None:
    talk = Dialogue("me")
    tracemalloc.start()
    try:
        for _ in range(1000):
            assert talk.heard(Way.TO_SERVER, 0, b"x" * 5000 + b"\n") == []
        assert tracemalloc.get_traced_memory()[0] < 500_000
    finally:
        tracemalloc.stop()


def test_a_conversation_with_too_many_open_requests_is_shown_no_further() -> None:
    talk = Dialogue("me")
    assert talk.heard(Way.TO_SERVER, 0, b"x\n" * MAX_OPEN) == []
    assert talk.heard(Way.TO_CLIENT, 0, b"200 OK\n")[0].endswith("me x -> 200 OK  0 us")
    (last,) = talk.heard(Way.TO_SERVER, 0, b"y\nz\n")
    assert last.endswith(f"has {MAX_OPEN} requests without a reply: it is not shown further")
    assert talk.heard(Way.TO_CLIENT, 0, b"200 OK\n") == []


def test_what_was_heard_is_told_in_order_and_at_the_latest_when_nothing_comes() -> None:
    with target(answer) as port, tapping(port) as tap, tap.connect() as sock:
        for number in range(40):
            sock.sendall(b"KV/1.0 GET key%d\n" % number)
            read_lines(sock, 1)
        assert tap.process.stdout
        shown = [tap.process.stdout.readline() for _ in range(41)]  # while the connection is open
        assert [line.split()[3] for line in shown[1:]] == [b"key%d" % number for number in range(40)]
        finish(sock)
