"""Bugs between clients, and those that end or stop the server."""

import os
import socket
import threading
import time

from reference_server import State, answer, talking

from planted.bug import BUGS, WINDOW_S, Bug, conversation, count, lines_of, put_of, replying, words_of

BUGS["one-client-at-a-time"] = Bug("one-client-at-a-time", talking(), threads=False)
BUGS["greeting"] = Bug("greeting", talking(), greeting=b"Welcome to KVSS\n")
BUGS["prompt"] = Bug("greeting", talking(end=b"\nKV> "), greeting=b"KV> ")
BUGS["replies-end-in-crlf"] = Bug("replies-end-in-crlf", talking(end=b"\r\n"))
BUGS["replies-end-twice"] = Bug("replies-end-twice", talking(end=b"\n\n"))
BUGS["replies-without-lf"] = Bug("replies-without-lf", talking(end=b""))
BUGS["replies-padded"] = Bug("replies-padded", talking(end=b"\n" + bytes(20)))


def _extra(state: State, name: str, value: object) -> object:
    """Return something that one bug keeps in the state."""
    return state.__dict__.setdefault(name, value)


@replying("slow-replies")
def slow_replies(state: State, line: bytes) -> tuple[bytes, bool]:
    time.sleep(30 * WINDOW_S)
    return answer(state, line)


@conversation("waits-for-slow")
def waits_for_slow(sock: socket.socket, state: State) -> None:
    lock = _extra(state, "reading", threading.Lock())
    assert isinstance(lock, type(threading.Lock()))
    buffer = b""
    held = False
    try:
        while data := sock.recv(65536):
            held = held or lock.acquire()
            *lines, buffer = (buffer + data).split(b"\n")
            replies = []
            for line in lines:
                replies.append(answer(state, line))
                if replies[-1][1]:
                    break
            if not buffer:
                lock.release()
                held = False
            sock.sendall(b"".join(reply + b"\n" for reply, _ in replies))
            if any(ends for _, ends in replies):
                return
    finally:
        if held:
            lock.release()


@conversation("lock-while-sending")
def lock_while_sending(sock: socket.socket, state: State) -> None:
    lock = _extra(state, "sending", threading.Lock())
    assert isinstance(lock, type(threading.Lock()))

    def reply_to(state: State, line: bytes) -> tuple[bytes, bool]:
        reply, ends = answer(state, line)
        with lock:
            sock.sendall(reply + b"\n")
        return b"", ends

    talking(reply_to, end=b"")(sock, state)


@conversation("few-clients")
def few_clients(sock: socket.socket, state: State) -> None:
    if state.counts["open"] <= 25:
        talking()(sock, state)


@conversation("store-per-connection")
def store_per_connection(sock: socket.socket, state: State) -> None:
    own = State()
    own.counts, own.started, own.lock, own.stopping = state.counts, state.started, state.lock, state.stopping
    talking()(sock, own)


def _late_put(state: State, line: bytes) -> tuple[bytes, bool] | None:
    put = put_of(line)
    if put is None:
        return None
    new = put[0] not in state.store
    time.sleep(WINDOW_S)
    state.store[put[0]] = put[1]
    count(state, "served", "put")
    return (b"201 CREATED" if new else b"200 OK"), False


def _late_del(state: State, line: bytes) -> tuple[bytes, bool] | None:
    command, key, _ = words_of(line)
    if command != b"DEL" or key not in state.store or b" " in key or line.count(b" ") != 2:
        return None
    time.sleep(WINDOW_S)
    state.store.pop(key, None)
    count(state, "served", "del")
    return b"204 NO_CONTENT", False


@replying("check-then-put")
def check_then_put(state: State, line: bytes) -> tuple[bytes, bool]:
    return _late_put(state, line) or answer(state, line)


@replying("check-then-del")
def check_then_del(state: State, line: bytes) -> tuple[bytes, bool]:
    return _late_del(state, line) or answer(state, line)


@replying("unlocked")
def unlocked(state: State, line: bytes) -> tuple[bytes, bool]:
    return _late_put(state, line) or _late_del(state, line) or answer(state, line)


@replying("map-copied")
def map_copied(state: State, line: bytes) -> tuple[bytes, bool]:
    if (put := put_of(line)) is None:
        return answer(state, line)
    copied = dict(state.store)
    new = put[0] not in copied
    copied[put[0]] = put[1]
    time.sleep(WINDOW_S)
    state.store = copied
    count(state, "served", "put")
    return (b"201 CREATED" if new else b"200 OK"), False


@replying("reply-buffer-shared")
def reply_buffer_shared(state: State, line: bytes) -> tuple[bytes, bool]:
    reply, ends = answer(state, line)
    if reply[:7] != b"200 OK ":
        return reply, ends
    state.__dict__["buffer"] = reply
    time.sleep(WINDOW_S)
    return state.__dict__["buffer"], ends


@replying("torn-value")
def torn_value(state: State, line: bytes) -> tuple[bytes, bool]:
    put = put_of(line)
    if put and put[0] in state.store and len(put[1]) > 100:
        half = len(put[1]) // 2
        state.store[put[0]] = put[1][:half] + state.store[put[0]][half:]
        time.sleep(WINDOW_S)
    return answer(state, line)


@conversation("stale-cache")
def stale_cache(sock: socket.socket, state: State) -> None:
    cache: dict[bytes, bytes] = {}

    def reply_to(state: State, line: bytes) -> tuple[bytes, bool]:
        command, key, _ = words_of(line)
        if command == b"GET" and key in cache:
            count(state, "served", "get")
            return cache[key], False
        reply, ends = answer(state, line)
        cache.pop(key, None)
        if command == b"GET" and reply[:3] == b"200":
            cache[key] = reply
        return reply, ends

    talking(reply_to)(sock, state)


@conversation("quit-goes-on")
def quit_goes_on(sock: socket.socket, state: State) -> None:
    buffer = b""
    while data := sock.recv(65536):
        *lines, buffer = (buffer + data).split(b"\n")
        replies = [answer(state, line) for line in lines]
        sock.sendall(b"".join(reply + b"\n" for reply, _ in replies))
        if any(ends for _, ends in replies):
            return


@conversation("empty-line-skipped")
def empty_line_skipped(sock: socket.socket, state: State) -> None:
    for line in lines_of(sock):
        if line.rstrip(b"\r"):
            reply, ends = answer(state, line)
            sock.sendall(reply + b"\n")
            if ends:
                return


@replying("crash", fresh=True)
def crash(state: State, line: bytes) -> tuple[bytes, bool]:
    if line.rstrip(b"\r") == b"KV/1.0":
        os._exit(3)
    return answer(state, line)


@replying("hang", fresh=True)
def hang(state: State, line: bytes) -> tuple[bytes, bool]:
    if line.rstrip(b"\r") == b"KV/1.0":
        with state.lock:
            state.stopping.wait(60)
    return answer(state, line)


@replying("devours", fresh=True)
def devours(state: State, line: bytes) -> tuple[bytes, bool]:
    if line.rstrip(b"\r") == b"KV/1.0":
        state.__dict__["hoard"] = bytearray(b"x") * (5 << 28)
        time.sleep(0.5)
    return answer(state, line)


@replying("quit-ends-server", fresh=True)
def quit_ends_server(state: State, line: bytes) -> tuple[bytes, bool]:
    reply, ends = answer(state, line)
    if reply == b"200 OK bye":
        os._exit(0)
    return reply, ends
