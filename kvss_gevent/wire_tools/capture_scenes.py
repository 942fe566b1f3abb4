"""What the client does in each scene of docs/wire.md, which is captured. The socket's timeout bounds every wait."""

import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

LIMIT_S: Final = 5.0
ROUNDS: Final = 20
"""Linux acknowledges the first segments of a connection at once, and delays only later ones."""
DIALOGUE: Final = (
    b"KV/1.0 PUT user42 Alice",
    b"KV/1.0 GET user42",
    b"KV/1.0 DEL user42",
    b"KV/1.0 GET user42",
    b"KV/1.0 POTT user42 Alice",
    b"GET user42",
    b"KV/1.0 STATS",
    b"KV/1.0 QUIT",
)


def _connect(port: int, *, nodelay: bool = True) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), LIMIT_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, int(nodelay))
    return sock


def _dialogue(port: int) -> None:
    with _connect(port) as sock, sock.makefile("rb") as replies:
        for line in DIALOGUE:
            sock.sendall(line + b"\n")
            replies.readline()


def _cut(port: int) -> None:
    with _connect(port) as sock:
        for piece in (b"KV/1.0 PUT us", b"er42 Ali", b"ce\n"):
            sock.sendall(piece)
            time.sleep(0.05)
        sock.recv(100)


def _long(port: int) -> None:
    with _connect(port) as sock:
        sock.sendall(b"KV/1.0 PUT long " + b"x" * 150_000 + b"\n")
        sock.recv(100)


def _pipeline(port: int) -> None:
    with _connect(port) as sock, sock.makefile("rb") as replies:
        sock.sendall(b"".join(b"KV/1.0 PUT key%d value%d\n" % (number, number) for number in range(64)))
        for _ in range(64):
            replies.readline()


def _two_writes(port: int, *, nodelay: bool) -> None:
    with _connect(port, nodelay=nodelay) as sock:
        for _ in range(ROUNDS):
            sock.sendall(b"KV/1.0 GET ")
            sock.sendall(b"user42\n")
            sock.recv(100)


def _unfinished(port: int) -> None:
    with _connect(port) as sock:
        sock.sendall(b"KV/1.0 GET user42\nKV/1.0 GET us")
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(100):
            pass


def _reset(port: int) -> None:
    with _connect(port) as sock:
        sock.sendall(b"KV/1.0 SLEEP 300\nKV/1.0 GET user42\n")
        time.sleep(0.1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _refused(port: int) -> None:
    with suppress(ConnectionRefusedError):
        _connect(port + 1).close()


SCENES: Final[dict[str, Callable[[int], None]]] = {
    "dialogue": _dialogue,
    "cut": _cut,
    "long": _long,
    "pipeline": _pipeline,
    "nagle": lambda port: _two_writes(port, nodelay=False),
    "nodelay": lambda port: _two_writes(port, nodelay=True),
    "unfinished": _unfinished,
    "reset": _reset,
    "refused": _refused,
}
