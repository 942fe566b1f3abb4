"""The captures that a tap writes: what Wireshark makes of them, their files, and pipes."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from dissecting import fields, shark
from serving import read_lines
from tapping import answer, finish, tapping, target

from kvss_gevent.cli import main
from kvss_gevent.wire_tools.output import Output, older
from kvss_gevent.wire_tools.tap_recorders import HEAD

needs_tshark = pytest.mark.skipif(
    shutil.which("tshark") is None and not os.environ.get("CI"), reason="tshark is not installed"
)


def test_a_capture_into_a_pipe_waits_for_its_reader_and_is_not_renamed(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with os.fdopen(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK), "rb") as reader:
        os.set_blocking(reader.fileno(), True)
        output = Output.to_file(pipe, b"head", 1000)
        for _ in range(300):
            output.write(b"x" * 1000)
        output.close(0.2)
        assert output.failure is None, "a full pipe is no failure: its reader is only slow"
        assert reader.read(300_004) == b"head" + b"x" * 300_000
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
