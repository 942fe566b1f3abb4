"""Bugs in what STATS counts."""

import socket
import time
from collections import Counter

from reference_server import State, answer, talking

from planted.bug import conversation, count, put_of, replying, words_of


@conversation("counters-per-connection")
def counters_per_connection(sock: socket.socket, state: State) -> None:
    own = State()
    own.store, own.started, own.stopping = state.store, state.started, state.stopping
    own.counts = _Counts(state)
    own.lock = state.lock
    talking()(sock, own)


class _Counts(Counter[str]):
    """Counters of one connection, with the number of open connections of all."""

    def __init__(self, state: State) -> None:
        super().__init__()
        self._state = state

    def __getitem__(self, name: str) -> int:
        return self._state.counts[name] if name == "open" else super().__getitem__(name)


@conversation("connections-never-fall")
def connections_never_fall(sock: socket.socket, state: State) -> None:
    try:
        talking()(sock, state)
    finally:
        count(state, "open")


@conversation("connections-leak-at-reset")
def connections_leak_at_reset(sock: socket.socket, state: State) -> None:
    try:
        talking()(sock, state)
    except OSError:
        count(state, "open")


@replying("keys-counted-apart")
def keys_counted_apart(state: State, line: bytes) -> tuple[bytes, bool]:
    reply, ends = answer(state, line)
    if put_of(line):
        state.__dict__["keys"] = state.__dict__.get("keys", 0) + 1
    if reply[:14] == b"200 OK uptime:":
        reply = reply.rpartition(b" ")[0] + b" %d" % state.__dict__.get("keys", 0)
    return reply, ends


@replying("commands-left-out")
def commands_left_out(state: State, line: bytes) -> tuple[bytes, bool]:
    reply, ends = answer(state, line)
    if reply[:3] in (b"400", b"426"):
        with state.lock:
            state.counts["served"] -= 1
    return reply, ends


@replying("successes-counted")
def successes_counted(state: State, line: bytes) -> tuple[bytes, bool]:
    reply, ends = answer(state, line)
    if reply[:3] == b"404":
        with state.lock:
            state.counts[words_of(line)[0].decode().lower()] -= 1
    return reply, ends


@replying("refused-counted")
def refused_counted(state: State, line: bytes) -> tuple[bytes, bool]:
    reply, ends = answer(state, line)
    command = words_of(line)[0].decode(errors="replace").lower()
    if reply[:3] == b"400" and command in ("get", "put", "del"):
        count(state, command)
    return reply, ends


@replying("stats-missing")
def stats_missing(state: State, line: bytes) -> tuple[bytes, bool]:
    return answer(state, b"KV/1.0 NO" if words_of(line)[0] == b"STATS" else line)


@replying("uptime-stands-still")
def uptime_stands_still(state: State, line: bytes) -> tuple[bytes, bool]:
    state.started = time.monotonic()
    return answer(state, line)


@replying("counters-begin-elsewhere", fresh=True)
def counters_begin_elsewhere(state: State, line: bytes) -> tuple[bytes, bool]:
    with state.lock:
        if not state.__dict__.setdefault("begun", False):
            state.__dict__["begun"] = True
            state.counts.update({"served": 7, "get": 3})
    return answer(state, line)
