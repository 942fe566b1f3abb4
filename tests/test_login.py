"""Users over the wire (rules 12 and 14): who may do what, how guesses are slowed down, and that nothing leaks."""

import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from hypothesis import given, settings
from hypothesis import strategies as st
from serving import Served, read_all, read_lines, serving, wait_until
from session_calls import feed

from kvss_gevent.core.conversation import Limits
from kvss_gevent.core.login import LoginConversation, views
from kvss_gevent.core.password_hash import hash_password
from kvss_gevent.core.service import Service
from kvss_gevent.core.user_file import Role, User, change_users
from kvss_gevent.server.security.protection import Protection
from kvss_gevent.settings.config import Config
from kvss_gevent.settings.fail import Fail
from kvss_gevent.stores.base import CannotOpen
from kvss_gevent.stores.memory import MemoryStore
from kvss_gevent.stores.remote.access import access_of

USERS = {
    (b"reader", b"r"): User("reader", Role.READ, ""),
    (b"writer", b"w w "): User("writer", Role.WRITE, ""),
}


def conversation(limits: Limits | None = None) -> LoginConversation:
    service = Service(MemoryStore(), limits)
    return LoginConversation(service, views(service), lambda *pair: USERS.get(pair))


def test_before_a_login_requests_are_401_and_errors_stay_what_they_are() -> None:
    one = conversation()
    lines = [b"KV/1.0 GET a", b"KV/1.0 PUT a 1", b"KV/1.0 STATS", b"KV/1.0 NONE", b"GET a", b"KV/1.0 AUTH writer"]
    codes = [reply[:3] for reply in feed(one, b"".join(line + b"\n" for line in lines)).splitlines()]
    assert codes == [b"401", b"401", b"401", b"400", b"426", b"400"]
    assert not one.closed
    assert feed(one, b"KV/1.0 QUIT\nKV/1.0 AUTH writer w w \n") == b"200 OK bye\n"
    assert one.closed


@pytest.mark.parametrize(
    ("stream", "reply", "foreign"),
    [
        (b"\x16\x03\x01", b"426 UPGRADE_REQUIRED\n", "TLS"),
        (b"GET / HTTP/1.1\r\n", b"426 UPGRADE_REQUIRED\n", "HTTP or the like"),
        (b"GET /\xff HTTP/1.1\r\n", b"400 BAD_REQUEST\n", "HTTP or the like"),
        (b"KV/1.0 AUTH reader r\nHost: a\n", b"200 OK authenticated\n426 UPGRADE_REQUIRED\n", "HTTP or the like"),
        (b"KV/1.0 QUIT\n", b"200 OK bye\n", ""),
    ],
)
def test_a_client_of_another_protocol_is_known_before_and_after_a_login(
    stream: bytes, reply: bytes, foreign: str
) -> None:
    one = conversation()
    assert feed(one, stream) == reply
    assert one.closed
    assert one.foreign == foreign


@pytest.mark.parametrize("cut", [0, 1, 3, 13])
def test_a_role_is_what_may_be_done_wherever_the_stream_is_cut(cut: int) -> None:
    stream = (
        b"KV/1.0 AUTH writer w w \nKV/1.0 PUT a KV/1.0 AUTH reader r\nKV/1.0 GET a\n"
        b"KV/1.0 AUTH reader r\r\nKV/1.0 GET a\nKV/1.0 PUT a 2\nKV/1.0 DEL a\nKV/1.0 GET a\n"
        b"KV/1.0 AUTH writer wrong\nKV/1.0 GET a\nKV/1.0 AUTH writer w w \nKV/1.0 DEL a\n"
    )
    packets = [stream[at : at + cut] for at in range(0, len(stream), cut)] if cut else [stream]
    assert feed(conversation(), *packets).splitlines() == [
        b"200 OK authenticated",
        b"201 CREATED",
        b"200 OK KV/1.0 AUTH reader r",
        b"200 OK authenticated",
        b"200 OK KV/1.0 AUTH reader r",
        b"403 FORBIDDEN",
        b"403 FORBIDDEN",
        b"200 OK KV/1.0 AUTH reader r",
        b"401 UNAUTHORIZED",
        b"401 UNAUTHORIZED",
        b"200 OK authenticated",
        b"204 NO_CONTENT",
    ]


PIECES = st.sampled_from(
    [
        b"KV/1.0 AUTH writer w w \n",
        b"KV/1.0 AUTH reader r\n",
        b"KV/1.0 AUTH reader x\n",
        b"KV/1.0 PUT a 1\n",
        b"KV/1.0 GET a\n",
        b"KV/1.0 AUTH ",
        b"\n",
        b"KV/1.0 ",
        b"\xff\n",
        b"x" * 50,
        b"GET / HTTP/1.1\n",
    ]
)


@settings(max_examples=200, deadline=None)
@given(st.lists(PIECES, max_size=12).map(b"".join), st.integers(1, 40))
def test_replies_do_not_depend_on_where_packets_were_cut(stream: bytes, cut: int) -> None:
    whole, cutting = conversation(Limits(line_bytes=60)), conversation(Limits(line_bytes=60))
    first = feed(whole, stream) if stream else b""
    second = feed(cutting, *(stream[at : at + cut] for at in range(0, len(stream), cut)))
    assert first == second
    assert whole.closed == cutting.closed


def test_before_a_login_only_one_line_of_4_kib_is_kept() -> None:
    one = conversation()
    for _ in range(100):
        assert one.receive(b"x" * 1000) == b""
        assert len(one.partial or b"") <= 4098
    assert feed(one, b"\nKV/1.0 GET a\n") == b"400 BAD_REQUEST\n401 UNAUTHORIZED\n"


def test_http_ends_the_connection_before_a_login_too() -> None:
    one = conversation()
    assert feed(one, b"POST / HTTP/1.1\nKV/1.0 AUTH writer w w \n") == b"426 UPGRADE_REQUIRED\n"
    assert one.closed


@pytest.fixture
def users_file(tmp_path: Path) -> Path:
    path = tmp_path / "users.txt"
    for name, role in (("alice", Role.WRITE), ("bob", Role.READ)):
        change_users(path, name, User(name, role, hash_password(f"of {name}".encode())))
    return path


@pytest.fixture
def server(users_file: Path) -> Iterator[Served]:
    with serving("--users", str(users_file), "-vv") as served:
        yield served


@pytest.mark.server
def test_a_server_with_users_and_its_log(server: Served) -> None:
    replies = server.ask(b"KV/1.0 AUTH alice wrong password\nKV/1.0 AUTH alice of alice\nKV/1.0 PUT a 1\n")
    assert replies == b"401 UNAUTHORIZED\n200 OK authenticated\n201 CREATED\n"
    _, log = server.stop()
    assert "of alice" not in log
    assert "wrong" not in log


@pytest.mark.timing
@pytest.mark.server
def test_others_are_served_while_passwords_are_checked(server: Served) -> None:
    with server.connect() as honest:
        honest.sendall(b"KV/1.0 AUTH alice of alice\n")
        assert read_lines(honest, 1) == [b"200 OK authenticated"]
        crowd = [server.connect() for _ in range(20)]
        for sock in crowd:
            sock.sendall(b"KV/1.0 AUTH alice wrong\n" * 20)
        took = []
        for _ in range(50):
            started_s = time.monotonic()
            honest.sendall(b"KV/1.0 GET a\n")
            read_lines(honest, 1)
            took.append(time.monotonic() - started_s)
            time.sleep(0.01)
        assert sorted(took)[25] < 0.05
        for sock in crowd:
            sock.close()


@pytest.mark.server
def test_guesses_of_an_address_come_late_and_no_faster_on_many_connections(server: Served) -> None:
    crowd = [server.connect() for _ in range(8)]
    started_s = time.monotonic()
    for sock in crowd:
        sock.sendall(b"KV/1.0 AUTH alice wrong\n")
    for sock in crowd:
        assert read_lines(sock, 1) == [b"401 UNAUTHORIZED"]
        sock.close()
    # 10 in a second, and delays from the fourth on. The clock began before the first guess: a busy machine adds to it.
    assert time.monotonic() - started_s > 0.6


@pytest.mark.server
def test_a_server_that_ends_does_not_wait_for_the_delays_of_guesses(server: Served) -> None:
    with server.connect() as guessing:
        guessing.sendall(b"KV/1.0 AUTH alice wrong\n" * 40)  # their delays are 5 s each in the end
        first = read_lines(guessing, 1)
        server.process.terminate()
        rest = read_all(guessing)
    assert b"\n".join([*first, rest]) == b"401 UNAUTHORIZED\n" * 40
    assert server.process.wait(30) == 0
    assert "every client was answered" in server.logged()


@pytest.mark.server
def test_sighup_reads_the_users_again(server: Served, users_file: Path) -> None:
    change_users(users_file, "carol", User("carol", Role.WRITE, hash_password(b"new")))
    os.kill(server.pid, signal.SIGHUP)
    wait_until(lambda: f"read {users_file} again" in server.logged())  # to ask until it is so would be guessing
    assert server.ask(b"KV/1.0 AUTH carol new\n") == b"200 OK authenticated\n"
    users_file.write_text("rubbish\n")
    os.kill(server.pid, signal.SIGHUP)
    wait_until(lambda: "users and certificates stay as they were" in server.logged())
    assert server.ask(b"KV/1.0 AUTH carol new\n") == b"200 OK authenticated\n"


@pytest.mark.server
@pytest.mark.parametrize("left", [None, User("alice", Role.READ, ""), User("alice", Role.WRITE, "")])
def test_who_is_not_the_same_user_any_more_is_disconnected(server: Served, users_file: Path, left: User | None) -> None:
    secret = hash_password(b"another" if left and left.role is Role.WRITE else b"of alice")
    with server.connect() as alice, server.connect() as bob:
        for sock, name in ((alice, b"alice"), (bob, b"bob")):
            sock.sendall(b"KV/1.0 AUTH %b of %b\n" % (name, name))
            assert read_lines(sock, 1) == [b"200 OK authenticated"]
        change_users(users_file, "alice", left and User("alice", left.role, secret))
        os.kill(server.pid, signal.SIGHUP)
        assert alice.recv(1) == b""
        bob.sendall(b"KV/1.0 GET a\n")
        assert read_lines(bob, 1) == [b"404 NOT_FOUND"]


@pytest.mark.server
def test_without_users_auth_is_an_unknown_command() -> None:
    with serving() as server:
        assert server.ask(b"KV/1.0 AUTH alice x\n") == b"400 BAD_REQUEST\n"


def refusal(*flags: str) -> str:
    command = [sys.executable, "-m", "kvss_gevent", "serve", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 2
    return done.stderr


def test_other_machines_are_let_in_only_with_users_and_tls_or_open(users_file: Path) -> None:
    assert "no login is needed" in refusal("0.0.0.0", "0")
    assert "without encryption" in refusal("0.0.0.0", "0", "--users", str(users_file))
    assert "supports no users and no TLS" in refusal("--model", "threads", "--users", str(users_file))
    assert "are needed together" in refusal("--tls-cert", "x.pem")


@pytest.mark.server
def test_a_server_with_tls_and_users(tmp_path: Path, users_file: Path) -> None:
    authority = trustme.CA()
    pem = tmp_path / "server.pem"
    authority.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(pem))
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    flags = ("--users", str(users_file), "--tls-cert", str(pem), "--tls-key", str(pem))
    with serving(*flags) as server:
        with trust.wrap_socket(server.connect(), server_hostname="127.0.0.1") as sock:
            value = b"x" * 300_000
            sock.sendall(b"KV/1.0 AUTH alice of alice\nKV/1.0 PUT k " + value + b"\n" + b"KV/1.0 GET k\n" * 20)
            assert read_lines(sock, 22)[2:] == [b"200 OK " + value] * 20
        with server.connect() as plain:
            plain.sendall(b"KV/1.0 GET a\n")
            assert read_all(plain) == b""
        code, log = server.stop()
    assert code == 0
    assert "does not speak TLS" in log


@pytest.mark.server
def test_a_client_of_another_protocol_is_named_in_the_log_at_most_every_10_s() -> None:
    with serving() as server:
        for _ in range(3):
            assert server.ask(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") == b"426 UPGRADE_REQUIRED\n"
        with server.connect() as sock:
            sock.sendall(b"\x16\x03\x01")
            assert sock.recv(100) == b"426 UPGRADE_REQUIRED\n"
        _, log = server.stop()
    first, others = [line for line in log.splitlines() if "and not KV/1.0" in line]
    assert "WARNING client 127.0.0.1:" in first
    assert "left out 3 lines such as: client 127.0.0.1:" in others


def test_a_pipe_in_the_place_of_a_certificate_is_refused_at_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(Fail, match="not a regular file"):
        Protection(Config(tls_cert=str(pipe), tls_key=str(pipe)))


def test_a_key_with_a_password_is_refused_and_nobody_is_asked_for_it(tmp_path: Path) -> None:
    pair = trustme.CA().issue_cert("localhost")
    key = serialization.load_pem_private_key(pair.private_key_pem.bytes(), None)
    (tmp_path / "key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    (tmp_path / "cert").write_bytes(pair.cert_chain_pems[0].bytes())
    with pytest.raises(Fail, match="its key is encrypted"):
        Protection(Config(tls_cert=str(tmp_path / "cert"), tls_key=str(tmp_path / "key")))
    with pytest.raises(CannotOpen, match="its key is encrypted"):
        access_of(Config(store_cert=str(tmp_path / "cert"), store_key=str(tmp_path / "key")), "", 0, tls=True)
