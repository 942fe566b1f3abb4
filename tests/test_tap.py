"""The recording proxy: what passes, what is recorded, and what a person reads."""

import contextlib
import errno
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import Mock

import pytest
from serving import read_all, read_lines
from test_dissector import fields, shark

from kvss_gevent.cli import main
from kvss_gevent.settings.addresses import parse_endpoint
from kvss_gevent.wire_tools.dialogue import MAX_OPEN, Dialogue
from kvss_gevent.wire_tools.output import Output, older
from kvss_gevent.wire_tools.tap import Tap
from kvss_gevent.wire_tools.tap_recorders import HEAD
from kvss_gevent.wire_tools.tcp_frames import Way

needs_tshark = pytest.mark.skipif(
    shutil.which("tshark") is None and not os.environ.get("CI"), reason="tshark is not installed"
)
RESET = struct.pack("ii", 1, 0)


@contextlib.contextmanager
def target(handle: Callable[[socket.socket], None]) -> Iterator[int]:
    """Run a server that gives each connection to handle; yield its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                sock.settimeout(10)
                threading.Thread(target=handle, args=(sock,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


class Tapped:
    """A running `kvss tap` in front of a port."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process, self.port = process, port

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 10)

    def stop(self) -> tuple[int, str, str]:
        """End it; return exit code, output and messages."""
        self.process.send_signal(signal.SIGTERM)
        out, err = self.process.communicate(timeout=10)
        return self.process.returncode, out.decode(errors="replace"), err.decode()


@contextlib.contextmanager
def tapping(port: int, *flags: str) -> Iterator[Tapped]:
    process = subprocess.Popen(
        [sys.executable, "-m", "kvss_gevent", "tap", "127.0.0.1:0", str(port), *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stderr
        match = re.match(rb"kvss tap: listening on 127.0.0.1:(\d+)", process.stderr.readline())
        assert match
        yield Tapped(process, int(match[1]))
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def finish(sock: socket.socket) -> None:
    """End a connection in good order, so that all of it has been recorded."""
    sock.shutdown(socket.SHUT_WR)
    assert read_all(sock) == b""


def answer(sock: socket.socket) -> None:
    """Answer every GET with its key, until the client ends; then end."""
    with contextlib.suppress(ConnectionError), sock, sock.makefile("rb") as lines:
        for line in lines:
            sock.sendall(b"200 OK %s\n" % line.split(b" ")[-1].strip())


def echo(sock: socket.socket) -> None:
    """Send back what comes, and end when the client has ended."""
    with contextlib.suppress(ConnectionError), sock:
        while data := sock.recv(1 << 16):
            sock.sendall(data)


def test_bytes_pass_unchanged_and_a_half_close_too(tmp_path: Path) -> None:
    data = random.Random(1).randbytes(5 << 20)
    with target(echo) as port, tapping(port, "-w", str(tmp_path / "some.pcapng")) as tap, tap.connect() as sock:

        def send() -> None:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        assert read_all(sock) == data
        sender.join()


def test_a_reader_that_is_slow_holds_the_writer_and_nobody_else() -> None:
    with target(echo) as port, tapping(port) as tap, tap.connect() as slow, tap.connect() as other:
        slow.setblocking(False)
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while sent < 64 << 20:
                sent += slow.send(bytes(1 << 16))
                time.sleep(0.001)
        assert sent < 64 << 20
        other.sendall(b"x\n")
        assert other.recv(10) == b"x\n"


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


def test_resets_pass_in_both_directions() -> None:
    heard, seen = threading.Event(), threading.Event()

    def server(sock: socket.socket) -> None:
        with sock:
            if sock.recv(100) == b"break off\n":
                reset(sock)
                return
            heard.set()
            try:
                sock.recv(100)
            except ConnectionResetError:
                seen.set()

    with target(server) as port, tapping(port) as tap:
        with tap.connect() as sock:
            sock.sendall(b"break off\n")
            with pytest.raises(ConnectionResetError):
                sock.recv(100)
        sock = tap.connect()
        sock.sendall(b"hello\n")
        assert heard.wait(20)
        reset(sock)
        assert seen.wait(20)
        code, out, _ = tap.stop()
    assert code == 0
    assert "reset by the server" in out
    assert "reset by the client" in out


def test_a_reset_behind_a_half_close_passes() -> None:
    seen = threading.Event()

    def server(sock: socket.socket) -> None:
        with sock:
            sock.shutdown(socket.SHUT_WR)
            try:
                sock.recv(100)
            except ConnectionResetError:
                seen.set()

    with target(server) as port, tapping(port) as tap:
        sock = tap.connect()
        assert sock.recv(100) == b""
        reset(sock)
        assert seen.wait(20)


def test_a_target_that_is_down_is_told_once_and_may_come_back(tmp_path: Path) -> None:
    with target(answer) as port:
        pass
    with tapping(port, "-w", str(tmp_path / "down.pcapng")) as tap:
        for _ in range(3):
            # The reset may come before connect returns.
            with pytest.raises(ConnectionResetError), tap.connect() as sock:
                sock.recv(10)
        code, _, err = tap.stop()
    assert code == 0
    assert err.splitlines() == [f"kvss tap: no connection to 127.0.0.1:{port}: connection refused"]


def test_the_loop_sleeps_while_no_file_descriptor_is_left() -> None:
    class Full(socket.socket):
        tries = 0

        def accept(self) -> tuple[socket.socket, str]:
            self.tries += 1
            raise OSError(errno.EMFILE, "Too many open files")

    told: list[str] = []
    with Full() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with socket.create_connection(listener.getsockname()):
            end_s = time.monotonic() + 0.5
            tap = Tap(listener, parse_endpoint("5050"), no_recorder, told.append)
            tap.run(lambda: time.monotonic() > end_s)
    assert 1 <= listener.tries <= 10
    assert told == ["clients wait: Too many open files"]


def test_a_client_that_has_reset_before_it_is_accepted_is_no_fault() -> None:
    told: list[str] = []
    clients: list[tuple[str, int]] = []

    def recorder(client: tuple[str, int], _: tuple[str, int]) -> Any:
        clients.append(client)
        return Mock()

    with socket.create_server(("127.0.0.1", 0)) as behind, socket.create_server(("127.0.0.1", 0)) as listener:
        with socket.create_connection(listener.getsockname()) as sock:
            name = sock.getsockname()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        tap = Tap(listener, parse_endpoint(str(behind.getsockname()[1])), recorder, told.append)
        tap.run(lambda: bool(clients or told))
    assert clients == [name]
    assert told == []


def no_recorder(*_: object) -> NoReturn:
    raise AssertionError("no client was accepted")


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


def test_a_capture_into_a_pipe_is_not_renamed(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with os.fdopen(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK), "rb") as reader:
        output = Output.to_file(pipe, b"head", 1000)
        for _ in range(3):
            output.write(b"x" * 1000)
        output.close(60)
        assert reader.read() == b"head" + b"x" * 3000
    assert list(tmp_path.iterdir()) == [pipe]


def test_a_pipe_without_a_reader_is_waited_for_in_words_and_within_bounds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    monkeypatch.setattr("kvss_gevent.cli.tap.READER_S", 0.1)
    assert main(["tap", "127.0.0.1:0", "127.0.0.1:1", "-w", str(pipe)]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"kvss tap: waiting for a program that reads the pipe {pipe}, for at most 0.1 s",
        f"kvss tap: nothing reads the pipe {pipe}",
        f"  Start the reader first, such as wireshark -k -i {pipe}.",
    ]


def test_a_reader_of_the_pipe_may_come_later(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "kvss_gevent", "tap", "127.0.0.1:0", "127.0.0.1:1", "-w", str(pipe)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tap:
        assert tap.stderr is not None
        assert "waiting for a program" in tap.stderr.readline()
        with pipe.open("rb") as reader:
            assert reader.read(len(HEAD)) == HEAD
            assert "listening on" in tap.stderr.readline()
            tap.terminate()
            assert tap.wait(20) == 0


def test_a_conversation_with_too_many_open_requests_is_shown_no_further() -> None:
    talk = Dialogue("me")
    assert talk.heard(Way.TO_SERVER, 0, b"x\n" * MAX_OPEN) == []
    assert talk.heard(Way.TO_CLIENT, 0, b"200 OK\n")[0].endswith("me x -> 200 OK  0 us")
    (last,) = talk.heard(Way.TO_SERVER, 0, b"y\nz\n")
    assert last.endswith(f"has {MAX_OPEN} requests without a reply: it is not shown further")
    assert talk.heard(Way.TO_CLIENT, 0, b"200 OK\n") == []


@pytest.mark.full
@needs_tshark
@pytest.mark.parametrize("passes", [(), ("-2",)])
def test_what_is_recorded_is_followed_and_paired(tmp_path: Path, passes: tuple[str, ...]) -> None:
    path = tmp_path / "talk.pcapng"
    big = b"x" * 200_000
    with target(answer) as port, tapping(port, "-w", str(path)) as tap:
        with tap.connect() as sock, tap.connect() as other:
            sock.sendall(b"".join(b"KV/1.0 GET k%d\n" % n for n in range(64)) + b"KV/1.0 GET %s\n" % big)
            other.sendall(b"KV/1.0 GET k0\n")
            assert read_lines(sock, 65)[-1] == b"200 OK " + big
            read_lines(other, 1)
            finish(sock)
            finish(other)
        assert tap.stop()[0] == 0
    found = [
        (asked, data)
        for row in fields(path, "kv.reply_to", "kv.data", words=passes)
        for asked, data in zip(*row, strict=True)
        if len(data) < 100
    ]
    assert found.count(("GET k0", "k0")) == 2
    assert len(found) == 65
    assert all(asked == f"GET {data}" for asked, data in found)
    everything = shark(
        path, "-T", "fields", "-e", "tcp.analysis.flags", "-e", "frame.interface_name", "-e", "tcp.flags"
    )
    flags, names, _ = zip(*(line.split("\t") for line in everything.splitlines()), strict=True)
    assert set(flags) == {""}, "Wireshark finds nothing wrong with the segments"
    assert set(names) == {"requests", "replies"}
    assert shark(path, "-o", "tcp.check_checksum:TRUE", "-Y", "tcp.checksum.status == 0") == ""


@needs_tshark
def test_standard_output_is_a_capture_too(tmp_path: Path) -> None:
    with target(answer) as port, tapping(port, "-w", "-") as tap:
        with tap.connect() as sock:
            sock.sendall(b"KV/1.0 GET a\n")
            read_lines(sock, 1)
            finish(sock)
        tap.process.send_signal(signal.SIGINT)
        out, _ = tap.process.communicate(timeout=10)
    (tmp_path / "piped").write_bytes(out)
    assert len(list(fields(tmp_path / "piped", "kv.code"))) == 2


@needs_tshark
def test_files_stay_within_their_size_and_both_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "ring.pcapng"
    with target(answer) as port, tapping(port, "-w", str(path), "--max-size", "256K") as tap:
        with tap.connect() as sock:
            for _ in range(300):
                sock.sendall(b"KV/1.0 GET %s\n" % (b"x" * 1000))
                read_lines(sock, 1)
            finish(sock)
        assert tap.stop()[0] == 0
    sizes = [one.stat().st_size for one in (path, older(path))]
    assert sum(sizes) <= 256 << 10
    assert min(sizes) > 0
    for one in (path, older(path)):
        assert any(row[0] for row in fields(one, "kv.reply_to"))


@needs_tshark
def test_tls_passes_and_is_read_with_its_key_log(tmp_path: Path) -> None:
    assert main(["tls", "make-dev", str(tmp_path)]) == 0
    from kvss_gevent.client.sync import KVClient
    from kvss_gevent.server.security.tls import server_context

    context = server_context(tmp_path / "server.pem", tmp_path / "server-key.pem")
    path, keys = tmp_path / "tls.pcapng", tmp_path / "keys.txt"

    def serve(sock: socket.socket) -> None:
        answer(context.wrap_socket(sock, server_side=True))

    with target(serve) as port, tapping(port, "-w", str(path), "--keylog", str(keys)) as tap:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SSLKEYLOGFILE", str(keys))
            with KVClient("127.0.0.1", tap.port, tls=tmp_path / "ca.pem") as client:
                assert [client.get(b"a"), client.get(b"b")] == [b"a", b"b"]
        assert tap.stop()[0] == 0
    for passes in ((), ("-2",)):
        rows = list(fields(path, "kv.reply_to", "kv.data", words=(*passes, "-d", f"tcp.port=={port},tls")))
        assert [row for row in rows if row[0]] == [[["GET a"], ["a"]], [["GET b"], ["b"]]]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["5051", "5051"], 2),
        (["5051", "5050", "--keylog", "keys"], 2),
        (["5051", "5050", "-w", "/nowhere/file"], 2),
        (["nonsense:", "5050"], 2),
        (["192.0.2.1:5051", "5050"], 3),
    ],
)
def test_a_wrong_command_is_one_line_and_what_to_do(
    words: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tap", *words]) == code
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_a_name_that_is_not_known_is_called_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tap", "nobody.invalid:0", "5050"]) == 3
    cause, remedy = capsys.readouterr().err.splitlines()
    assert "Unknown error" not in cause
    assert "Give an address of this machine" in remedy


def test_what_was_heard_is_told_in_order_and_at_the_latest_when_nothing_comes() -> None:
    with target(answer) as port, tapping(port) as tap, tap.connect() as sock:
        for number in range(40):
            sock.sendall(b"KV/1.0 GET key%d\n" % number)
            read_lines(sock, 1)
        assert tap.process.stdout
        shown = [tap.process.stdout.readline() for _ in range(41)]  # while the connection is open
        assert [line.split()[3] for line in shown[1:]] == [b"key%d" % number for number in range(40)]
        finish(sock)


@pytest.mark.timing
@pytest.mark.full
def test_the_tap_adds_at_most_60_us(tmp_path: Path) -> None:
    def p50_us(sock: socket.socket) -> float:
        times = []
        for _ in range(1000):
            begun_ns = time.perf_counter_ns()
            sock.sendall(b"KV/1.0 GET a\n")
            sock.recv(100)
            times.append(time.perf_counter_ns() - begun_ns)
        return sorted(times)[500] / 1000

    with (
        target(answer) as port,
        tapping(port, "-w", str(tmp_path / "some.pcapng")) as tap,
        socket.create_connection(("127.0.0.1", port), 10) as direct,
        tap.connect() as tapped,
    ):
        added = sorted(p50_us(tapped) - p50_us(direct) for _ in range(15))
    assert (
        added[0] <= 60
    )  # the quietest of 15 comparisons: beside other programs the wake-ups take several times as long
