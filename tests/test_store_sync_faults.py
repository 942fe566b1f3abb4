"""A disk whose sync fails once, or hangs: nothing acknowledged is lost, and clients are served or told so.

The library of powercut.py is preloaded into the server. A sync that fails drops what it was to write, as Linux does.
"""

import random
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from lmdb.verify import verify
from powercut import Layer
from serving import read_lines, serving, wait_until
from torture import contents

pytestmark = [pytest.mark.server, pytest.mark.full, pytest.mark.timeout(120)]


class Writer:
    """A client that puts new keys, and when each was acknowledged; a 500 is noted and no reason to stop."""

    def __init__(self, sock: socket.socket) -> None:
        self.acknowledged: dict[bytes, float] = {}
        self.refused = 0
        self._sock = sock
        self._sock.settimeout(30)
        self._serial = 0

    def write_until(self, condition: Callable[[], bool], limit_s: float = 10.0) -> None:
        deadline_s = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < deadline_s, "wrote in vain"
            self._serial += 1
            key = b"%d" % self._serial
            self._sock.sendall(b"KV/1.0 PUT %b %b\n" % (key, key * 300))
            (reply,) = read_lines(self._sock, 1)
            assert reply in (b"201 CREATED", b"500 SERVER_ERROR")
            if reply == b"201 CREATED":
                self.acknowledged[key] = time.monotonic()
            else:
                self.refused += 1
                time.sleep(0.01)

    def write_more(self, number: int) -> None:
        enough = len(self.acknowledged) + number
        self.write_until(lambda: len(self.acknowledged) >= enough)


@pytest.mark.parametrize("sync", ["always", "interval"])
@pytest.mark.parametrize("seed", range(2))
def test_a_sync_that_fails_once_loses_nothing(tmp_path: Path, sync: str, seed: int) -> None:
    path = tmp_path / "data.kv"
    layer = Layer(tmp_path, path)
    with serving("--store", f"disk:{path}", "--sync", sync, env=layer.begin()) as server, server.connect() as sock:
        writer = Writer(sock)
        writer.write_more(100)
        layer.fail.touch()
        writer.write_until(lambda: not layer.fail.exists())
        writer.write_until(lambda: writer.refused > 0)
        writer.write_more(20)  # it recovers
        assert "writes get 500, reads go on" in server.logged()
        assert "writes work again" in server.logged()
        if sync == "interval":
            time.sleep(2.5)  # for a checkpoint
        server.process.kill()
        server.process.wait(10)
    found = layer.cut(random.Random(seed), contents)
    assert verify(str(path), subdir=False) == []
    assert [key for key in writer.acknowledged if found.get(key) != key * 300] == []


@pytest.mark.timing
def test_a_sync_that_hangs_keeps_nobody_from_reading(tmp_path: Path) -> None:
    path = tmp_path / "data.kv"
    layer = Layer(tmp_path, path)
    with serving("--store", f"disk:{path}", env=layer.begin()) as server, server.connect() as sock:
        writer = Writer(sock)
        writer.write_more(10)
        layer.hang.touch()
        with server.connect() as late:
            late.sendall(b"KV/1.0 PUT late 1\n")
            started_s = time.monotonic()
            assert server.ask(b"KV/1.0 GET 5\n") == b"200 OK " + b"5" * 300 + b"\n"
            assert time.monotonic() - started_s < 5
            late.settimeout(30)
            assert read_lines(late, 1) == [b"500 SERVER_ERROR"]
        assert "the disk has not answered for 10 s" in server.logged()
        assert server.ask(b"KV/1.0 PUT later 1\n") == b"500 SERVER_ERROR\n"  # at once
        assert server.ask(b"KV/1.0 GET 5\n").startswith(b"200 OK 5")
        layer.hang.unlink()
        wait_until(lambda: "the disk answers again" in server.logged(), 10)
        writer.write_more(10)
        server.process.kill()
        server.process.wait(10)
    found = layer.cut(random.Random(1), contents)
    assert [key for key in writer.acknowledged if found.get(key) != key * 300] == []
