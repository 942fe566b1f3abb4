"""Bugs that end connections, or the server, too early."""

import os
import socket
from collections import Counter

from reference_server import LIMIT, State, answer, talking

from planted.bug import conversation, replying

SLOTS = 90


@replying("one-request-a-connection")
def one_request_a_connection(state: State, line: bytes) -> tuple[bytes, bool]:
    return answer(state, line)[0], True


@conversation("long-lines-end")
def reader_of_64_kib(sock: socket.socket, state: State) -> None:
    _reading(sock, state, 65536)


@conversation("long-lines-end")
def too_long_ends(sock: socket.socket, state: State) -> None:
    _reading(sock, state, LIMIT)


def _reading(sock: socket.socket, state: State, limit: int) -> None:
    buffer = b""
    while data := sock.recv(65536):
        *lines, buffer = (buffer + data).split(b"\n")
        if any(len(line) > limit for line in (*lines, buffer)):
            return
        for line in lines:
            reply, ends = answer(state, line)
            sock.sendall(reply + b"\n")
            if ends:
                return


@conversation("dies-when-a-client-breaks-off", fresh=True)
def dies_when_a_client_breaks_off(sock: socket.socket, state: State) -> None:
    try:
        talking()(sock, state)
    except OSError:
        os._exit(1)


@conversation("slots-run-out", fresh=True)
def slots_never_given_back(sock: socket.socket, state: State) -> None:
    if state.__dict__.setdefault("slots", Counter())["taken"] < SLOTS:
        state.__dict__["slots"]["taken"] += 1
        talking()(sock, state)


@conversation("slots-run-out", fresh=True)
def dies_after_a_hundred_clients(sock: socket.socket, state: State) -> None:
    slots = state.__dict__.setdefault("slots", Counter())
    slots["taken"] += 1
    if slots["taken"] > SLOTS:
        os._exit(1)
    talking()(sock, state)
