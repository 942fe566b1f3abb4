"""Starts a tap in front of a server for a test, and the servers."""

import contextlib
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

from serving import read_all


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
