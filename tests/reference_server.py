"""A second KV/1.0 server, plain threads and no line of the project: the oracle that judges the conformance table.

Every server of the conformance tests runs in `running`; the broken ones bring their own conversation or answers.
"""

import contextlib
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta

LIMIT = 1 << 20
METHODS = (b"GET", b"POST", b"PUT", b"DELETE", b"HEAD", b"OPTIONS", b"PATCH", b"CONNECT", b"TRACE")
SCHEME = re.compile(rb"^[a-zA-Z][a-zA-Z0-9+.-]*://")


def is_of_another_protocol(words: list[bytes]) -> bool:
    """Rule 5b, spelled out."""
    if words[0] == b"KV/1.0":
        return False
    said = [word for word in re.split(rb"[ \t\r\v\f]+", b" ".join(words)) if word]
    if said and said[-1].upper().startswith(b"HTTP/"):
        return True
    if words[0].rstrip(b"\r").endswith(b":"):
        return True
    second = words[1] if len(words) > 1 else b""
    return words[0] in METHODS and (second.startswith(b"/") or SCHEME.match(second) is not None)


class State:
    """What all connections share."""

    def __init__(self, form: str = "readme") -> None:
        self.form = form
        self.store: dict[bytes, bytes] = {}
        self.counts: Counter[str] = Counter()
        self.started = time.monotonic()
        self.lock = threading.Lock()
        self.stopping = threading.Event()


Answer = Callable[[State, bytes], tuple[bytes, bool]]
Converse = Callable[[socket.socket, State], None]


def answer(state: State, line: bytes) -> tuple[bytes, bool]:
    """Return the reply to one line and whether the connection ends behind it."""
    with state.lock:
        reply, ends = _answer(state, line.removesuffix(b"\r"))
        state.counts["served"] += 1
        return reply, ends


def _answer(state: State, line: bytes) -> tuple[bytes, bool]:
    try:
        line.decode()
    except UnicodeDecodeError:
        return b"400 BAD_REQUEST", is_of_another_protocol(line[:600].split(b" "))
    if len(line) > LIMIT:
        return b"400 BAD_REQUEST", is_of_another_protocol(line[:600].split(b" "))
    words = line.split(b" ")
    if words[0] != b"KV/1.0":
        return b"426 UPGRADE_REQUIRED", is_of_another_protocol(words)
    command, key = (*words[1:], b"", b"")[:2]
    if 0 < len(key) < 512:
        if command == b"GET" and len(words) == 3:
            state.counts["get"] += 1
            return (b"200 OK " + state.store[key] if key in state.store else b"404 NOT_FOUND"), False
        if command == b"DEL" and len(words) == 3:
            state.counts["del"] += 1
            return (b"404 NOT_FOUND" if state.store.pop(key, None) is None else b"204 NO_CONTENT"), False
        value = b" ".join(words[3:])
        if command == b"PUT" and value:
            state.counts["put"] += 1
            new = key not in state.store
            state.store[key] = value
            return (b"201 CREATED" if new else b"200 OK"), False
    if words[1:] == [b"STATS"]:
        return stats(state), False
    if words[1:] == [b"QUIT"]:
        return b"200 OK bye", True
    return b"400 BAD_REQUEST", False


def stats(state: State) -> bytes:
    """Return the STATS reply."""
    seconds, counts = int(time.monotonic() - state.started), state.counts
    if state.form == "lab":
        return b"200 OK keys=%d uptime=%ds served=%d" % (len(state.store), seconds, counts["served"] + 1)
    return (
        f"200 OK uptime: {timedelta(seconds=seconds)}; connections: {counts['open']}; "
        f"commands_processed: {counts['served']}; get_requests: {counts['get']}; put_requests: {counts['put']}; "
        f"del_requests: {counts['del']}; keys_stored: {len(state.store)}"
    ).encode()


def talking(reply_to: Answer = answer, end: bytes = b"\n") -> Converse:
    """Return a conversation that frames lines as it should and answers each with reply_to."""

    def converse(sock: socket.socket, state: State) -> None:
        buffer = bytearray()
        too_long = False
        while data := sock.recv(65536):
            buffer += data
            *lines, rest = buffer.split(b"\n") if b"\n" in data else (buffer,)
            for line in lines:
                reply, ends = (b"400 BAD_REQUEST", False) if too_long else reply_to(state, bytes(line))
                too_long = False
                sock.sendall(reply + end)
                if ends:
                    return
            too_long = too_long or len(rest) > LIMIT
            buffer = bytearray() if too_long else bytearray(rest)

    return converse


@contextlib.contextmanager
def running(
    converse: Converse, state: State | None = None, *, threads: bool = True, host: str = "127.0.0.1", port: int = 0
) -> Iterator[int]:
    """Run a server on a free port, a thread for each connection or one for all; yields the port."""
    state = state or State()
    listener = socket.create_server(
        (host, port), backlog=256, family=socket.AF_INET6 if ":" in host else socket.AF_INET
    )
    sockets: set[socket.socket] = set()

    def serve(sock: socket.socket) -> None:
        # A mistake in a broken server ends its thread and its connection, as it would in a student's server.
        with contextlib.suppress(Exception):
            converse(sock, state)
        with state.lock:
            state.counts["open"] -= 1
            sockets.discard(sock)
        sock.close()

    def accept() -> None:
        while not state.stopping.is_set():
            try:
                sock, _ = listener.accept()
            except TimeoutError:
                continue
            except OSError:
                break
            sock.settimeout(None)
            with state.lock:
                state.counts["open"] += 1
                sockets.add(sock)
            if threads:
                threading.Thread(target=serve, args=(sock,), daemon=True).start()
            else:
                serve(sock)
        # Who died takes its connections along.
        listener.close()
        with state.lock:
            for sock in sockets:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    listener.settimeout(0.1)
    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        state.stopping.set()
        thread.join(10)
        assert not thread.is_alive()
