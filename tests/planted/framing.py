"""Bugs between the bytes and the lines."""

import contextlib
import select
import socket
from collections.abc import Callable

from reference_server import LIMIT, State, answer, talking

from planted.bug import conversation, lines_of, put_of, replying, words_of

END_S = 0.3


def _reply(sock: socket.socket, state: State, line: bytes) -> bool:
    reply, ends = answer(state, line)
    sock.sendall(reply + b"\n")
    return ends


@conversation("recv-is-request")
def recv_is_request(sock: socket.socket, state: State) -> None:
    while data := sock.recv(65536):
        if _reply(sock, state, data.removesuffix(b"\n")):
            return


@conversation("recv-is-request")
def small_recv_is_request(sock: socket.socket, state: State) -> None:
    while data := sock.recv(1024):
        if _reply(sock, state, data.removesuffix(b"\n")):
            return


@conversation("piece-is-request")
def piece_is_request(sock: socket.socket, state: State) -> None:
    while data := sock.recv(65536):
        if any(_reply(sock, state, line) for line in data.removesuffix(b"\n").split(b"\n")):
            return


def _all(lines: list[bytes]) -> list[bytes]:
    return lines


def _framing(
    sock: socket.socket, state: State, pick: Callable[[list[bytes]], list[bytes]] = _all, *, lose_rest: bool = False
) -> bytes:
    buffer, too_long = b"", False
    while data := sock.recv(65536):
        buffer += data
        *lines, rest = buffer.split(b"\n")
        for line in pick(lines):
            if too_long:
                sock.sendall(b"400 BAD_REQUEST\n")
            elif _reply(sock, state, line):
                return b""
            too_long = False
        buffer = b"" if lose_rest and lines else rest
        if len(buffer) > LIMIT:
            buffer, too_long = b"", True
    return buffer


@conversation("replies-out-of-order")
def first_of_several_last(sock: socket.socket, state: State) -> None:
    _framing(sock, state, lambda lines: lines[1:] + lines[:1])


@conversation("rest-lost")
def rest_lost(sock: socket.socket, state: State) -> None:
    _framing(sock, state, lose_rest=True)


@conversation("first-line-only")
def first_line_only(sock: socket.socket, state: State) -> None:
    _framing(sock, state, lambda lines: lines[:1])


@conversation("first-line-only")
def one_line_a_recv(sock: socket.socket, state: State) -> None:
    buffer, too_long = b"", False
    while data := sock.recv(65536):
        buffer += data
        line, end, rest = buffer.partition(b"\n")
        if end:
            buffer = rest
            if too_long:
                sock.sendall(b"400 BAD_REQUEST\n")
            elif _reply(sock, state, line):
                return
            too_long = False
        elif len(buffer) > LIMIT:
            buffer, too_long = b"", True


@conversation("utf8-per-recv")
def utf8_per_recv(sock: socket.socket, state: State) -> None:
    buffer, too_long = "", False
    while data := sock.recv(65536):
        try:
            buffer += data.decode()
        except UnicodeDecodeError:
            sock.sendall(b"400 BAD_REQUEST\n")
            buffer = ""
            continue
        *lines, buffer = buffer.split("\n")
        for line in lines:
            if too_long:
                sock.sendall(b"400 BAD_REQUEST\n")
            elif _reply(sock, state, line.encode()):
                return
            too_long = False
        if len(buffer) > LIMIT:
            buffer, too_long = "", True


@conversation("unfinished-run")
def unfinished_run(sock: socket.socket, state: State) -> None:
    if rest := _framing(sock, state):
        _reply(sock, state, rest)


@conversation("unfinished-run")
def unfinished_del_run(sock: socket.socket, state: State) -> None:
    rest = _framing(sock, state)
    if words_of(rest)[0] == b"DEL":
        _reply(sock, state, rest)


@conversation("eof-drops-replies")
def eof_drops_replies(sock: socket.socket, state: State) -> None:
    buffer = b""
    while data := sock.recv(65536):
        *lines, buffer = (buffer + data).split(b"\n")
        # Behind several lines the end may come. It is waited for, so that the bug shows on a busy machine, too.
        readable, _, _ = select.select([sock], [], [], END_S if len(lines) + bool(buffer) > 1 else 0)
        if readable and not sock.recv(1, socket.MSG_PEEK):
            return
        if any(_reply(sock, state, line) for line in lines):
            return


@conversation("eof-unseen")
def eof_unseen(sock: socket.socket, state: State) -> None:
    quits = False
    for line in lines_of(sock):
        quits = _reply(sock, state, line)
        if quits:
            return
    state.stopping.wait(30)


@conversation("waits-for-crlf")
def waits_for_crlf(sock: socket.socket, state: State) -> None:
    buffer = b""
    while data := sock.recv(65536):
        *lines, buffer = (buffer + data).split(b"\r\n")
        if any(_reply(sock, state, line) for line in lines):
            return


@replying("line-feed-kept")
def line_feed_kept(state: State, line: bytes) -> tuple[bytes, bool]:
    reply, ends = answer(state, line)
    return (reply + b"\n" if words_of(line)[0] == b"GET" and reply[:3] == b"200" else reply), ends


@replying("crlf-kept")
def crlf_kept(state: State, line: bytes) -> tuple[bytes, bool]:
    return answer(state, line + b"\r")


@replying("crlf-refused")
def crlf_refused(state: State, line: bytes) -> tuple[bytes, bool]:
    return answer(state, b"KV/1.0 NO" if line.endswith(b"\r") else line)


@replying("returns-stripped")
def returns_stripped(state: State, line: bytes) -> tuple[bytes, bool]:
    return answer(state, line.rstrip(b"\r"))


@conversation("return-ends-line")
def return_ends_line(sock: socket.socket, state: State) -> None:
    def reply_to(state: State, line: bytes) -> tuple[bytes, bool]:
        *lines, last = line.removesuffix(b"\r").split(b"\r")
        for one in lines:
            _reply(sock, state, one)
        return answer(state, last)

    talking(reply_to)(sock, state)


@conversation("splitlines")
def splitlines(sock: socket.socket, state: State) -> None:
    for line in lines_of(sock):
        try:
            pieces = line.decode().splitlines() or [""]
        except UnicodeDecodeError:
            pieces = ["KV/1.0 NO"]
        if any(_reply(sock, state, piece.encode()) for piece in pieces):
            return


@replying("invalid-utf8-taken")
def invalid_utf8_taken(state: State, line: bytes) -> tuple[bytes, bool]:
    return answer(state, line.decode(errors="replace").encode())


@replying("invalid-utf8-taken")
def latin_1(state: State, line: bytes) -> tuple[bytes, bool]:
    reply, ends = answer(state, line.decode("latin-1").encode())
    return reply.decode().encode("latin-1"), ends


@replying("invalid-utf8-ends")
def invalid_utf8_ends(state: State, line: bytes) -> tuple[bytes, bool]:
    line.decode()
    return answer(state, line)


@conversation("line-unbounded")
def line_unbounded(sock: socket.socket, state: State) -> None:
    for line in lines_of(sock):
        if len(line) > LIMIT:
            _reply(sock, state, line[:1000])
        elif _reply(sock, state, line):
            return


@replying("long-lines-refused")
def long_lines_refused(state: State, line: bytes) -> tuple[bytes, bool]:
    return answer(state, b"KV/1.0 NO" if len(line) > 1024 else line)


@replying("value-cut")
def value_cut(state: State, line: bytes) -> tuple[bytes, bool]:
    put = put_of(line)
    return answer(state, line[: -len(put[1]) + 1024] if put and len(put[1]) > 1024 else line)


@conversation("send-in-part")
def send_in_part(sock: socket.socket, state: State) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    for line in lines_of(sock):
        reply, ends = answer(state, line)
        with contextlib.suppress(BlockingIOError):
            sock.send(reply + b"\n", socket.MSG_DONTWAIT)
        if ends:
            return
