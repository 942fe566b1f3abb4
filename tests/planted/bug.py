"""What a planted bug is, and the pieces that all of them are made of."""

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from reference_server import LIMIT, Answer, Converse, State, answer, talking

WINDOW_S = 0.001
"""A planted race waits so long between its two halves: a natural one shows too seldom to be graded."""


@dataclass(frozen=True)
class Bug:
    """A server with one bug. cause: the name under which the checker knows it. fresh: seen at a fresh start only."""

    cause: str
    converse: Converse
    greeting: bytes = b""
    form: str = "readme"
    threads: bool = True
    fresh: bool = False

    def serve(self, sock: socket.socket, state: State) -> None:
        sock.sendall(self.greeting)
        self.converse(sock, state)


BUGS: dict[str, Bug] = {}


def _name(function: Callable[..., object]) -> str:
    return function.__name__.replace("_", "-")


def conversation(cause: str, **more: bool) -> Callable[[Converse], Converse]:
    """Plant a bug that is a conversation of its own, named as its function."""

    def plant(converse: Converse) -> Converse:
        BUGS[_name(converse)] = Bug(cause, converse, **more)
        return converse

    return plant


def replying(cause: str, **more: bool) -> Callable[[Answer], Answer]:
    """Plant a bug that is an answer of its own to a line."""

    def plant(reply_to: Answer) -> Answer:
        BUGS[_name(reply_to)] = Bug(cause, talking(reply_to), **more)
        return reply_to

    return plant


def hearing(cause: str) -> Callable[[Callable[[bytes], bytes]], Callable[[bytes], bytes]]:
    """Plant a bug that changes a line before it is answered."""

    def plant(heard: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
        BUGS[_name(heard)] = Bug(cause, talking(lambda state, line: answer(state, heard(line))))
        return heard

    return plant


def saying(cause: str) -> Callable[[Callable[[bytes], bytes]], Callable[[bytes], bytes]]:
    """Plant a bug that changes a reply before it is sent."""

    def plant(said: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
        def reply_to(state: State, line: bytes) -> tuple[bytes, bool]:
            reply, ends = answer(state, line)
            return said(reply), ends

        BUGS[_name(said)] = Bug(cause, talking(reply_to))
        return said

    return plant


def words_of(line: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the command, key and value of a line as they should be read; empty where it has another version."""
    version, _, rest = line.removesuffix(b"\r").partition(b" ")
    if version != b"KV/1.0" or len(line) > LIMIT:
        return b"", b"", b""
    command, _, rest = rest.partition(b" ")
    key, _, value = rest.partition(b" ")
    return command, key, value


def put_of(line: bytes) -> tuple[bytes, bytes] | None:
    """Return the key and value of a well-formed PUT."""
    command, key, value = words_of(line)
    try:
        line.decode()
    except UnicodeDecodeError:
        return None
    return (key, value) if command == b"PUT" and value and 0 < len(key) < 512 else None


def count(state: State, *names: str) -> None:
    """Count a request that is not answered by the reference."""
    with state.lock:
        state.counts.update(names)


def lines_of(sock: socket.socket) -> Iterator[bytes]:
    """Yield the lines of a connection as they should be cut, without limits."""
    buffer = b""
    while data := sock.recv(65536):
        *lines, buffer = (buffer + data).split(b"\n")
        yield from lines
