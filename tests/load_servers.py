"""KV/1.0 servers for the load tester's tests: thread per connection, right or with one planted fault."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Answer = Callable[[dict[bytes, bytes], list[bytes]], bytes]


def right(data: dict[bytes, bytes], words: list[bytes]) -> bytes:
    """Answer one request as docs/protocol.md says."""
    match words:
        case [b"KV/1.0", b"GET", key]:
            return b"200 OK " + data[key] if key in data else b"404 NOT_FOUND"
        case [b"KV/1.0", b"PUT", key, value]:
            known = key in data
            data[key] = value
            return b"200 OK" if known else b"201 CREATED"
        case [b"KV/1.0", b"DEL", key]:
            return b"204 NO_CONTENT" if data.pop(key, None) is not None else b"404 NOT_FOUND"
        case [b"KV/1.0", b"STATS"]:
            return b"200 OK uptime: 0:00:01"
        case [b"KV/1.0", b"QUIT"]:
            return b"200 OK bye"
    return b"426 UPGRADE_REQUIRED"


@contextmanager
def serving(answer: Answer = right) -> Iterator[int]:
    """Serve on a free port of loopback until the block ends; yields the port."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.2)
    data: dict[bytes, bytes] = {}
    lock = threading.Lock()
    ended = threading.Event()

    def converse(sock: socket.socket) -> None:
        with sock, sock.makefile("rb") as lines:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                for line in lines:
                    with lock:
                        reply = answer(data, line[:-1].split(b" ", 3))
                    sock.sendall(reply + b"\n")
                    if ended.is_set() or reply == b"200 OK bye":
                        return
            except OSError:
                return

    def accept() -> None:
        while not ended.is_set():
            try:
                sock, _ = listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            sock.settimeout(10)
            threading.Thread(target=converse, args=(sock,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        ended.set()
        listener.close()
        thread.join(2)
