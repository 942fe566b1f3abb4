"""Prepares the connections of a load generator: connects, stores the keys, finds out which connections get answers."""

import contextlib
import itertools
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from kvss_gevent.measure.load import ClosedLoad, key_of, request
from kvss_gevent.protocol.wire import REPLY, Status, Verb, build_request, shorten

LIMIT_S: Final = 5.0
"""The longest time for each of three steps: connecting, storing the keys, and one answer on every connection."""

QUIET_S: Final = 0.5
SMALL_RECV_BYTES: Final = 448
KEYS_AT_ONCE: Final = 16
LONGEST_REPLY_BYTES: Final = 64
"""A longer reply to a PUT is wrong."""

ASK_ONCE: Final = {"kv": build_request(Verb.STATS), "resp": b"*1\r\n$4\r\nPING\r\n"}
"""A request whose reply is short, however long the values are."""

STORED: Final = {"kv": (REPLY[Status.OK], REPLY[Status.CREATED]), "resp": (b"+OK",)}


class Unusable(Exception):
    """There is no server to load, or it refuses the requests. The message says why."""


def resolve(host: str, port: int) -> tuple[Any, int]:
    """Return address and family of a host. Raises Unusable."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise Unusable(getattr(error, "strerror", None) or "no such host name") from None
    return address, family


def connect(address: Any, family: int, timeout_s: float) -> socket.socket:
    """Return a connection without Nagle's delay. Raises OSError."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout_s)
        sock.connect(address)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:
        sock.close()
        raise
    return sock


def connect_all(address: Any, family: int, number: int) -> list[socket.socket]:
    """Return as many connections as the server accepts within LIMIT_S, `number` at most."""
    made = []
    deadline_s = time.monotonic() + LIMIT_S
    for _ in range(number):
        with contextlib.suppress(OSError):
            made.append(connect(address, family, max(0.001, deadline_s - time.monotonic())))
    return made


def answered_once(socks: list[socket.socket], protocol: str, note: Callable[[bytes], None]) -> list[socket.socket]:
    """Send one request on every connection; return the connections on which the server did something.

    Here a model can make its thread or process for each client before the measurement begins. The wait ends when no
    connection has got an answer for QUIET_S. note takes each reply.
    """
    heard: set[socket.socket] = set()
    deadline_s = time.monotonic() + LIMIT_S
    with selectors.DefaultSelector() as waiting:
        for sock in socks:
            with contextlib.suppress(OSError):
                sock.sendall(ASK_ONCE[protocol])
            waiting.register(sock, selectors.EVENT_READ)
        while waiting.get_map() and time.monotonic() < deadline_s:
            ready = waiting.select(QUIET_S)
            if not ready:
                break
            for key, _ in ready:
                sock = key.fileobj  # type: ignore[assignment]
                waiting.unregister(sock)
                heard.add(sock)
                with contextlib.suppress(OSError):
                    note(sock.recv(SMALL_RECV_BYTES))
    return [sock for sock in socks if sock in heard]


def store_keys(address: Any, family: int, load: ClosedLoad) -> None:
    """Store every key once, so that every GET finds one. Raises Unusable."""
    deadline_s = time.monotonic() + LIMIT_S
    try:
        with connect(address, family, LIMIT_S) as sock:
            replies = _lines(sock, deadline_s)
            for first in range(0, load.keys, KEYS_AT_ONCE):
                keys = range(first, min(first + KEYS_AT_ONCE, load.keys))
                sock.settimeout(max(0.001, deadline_s - time.monotonic()))
                sock.sendall(b"".join(request(load, key_of(key), get=False)[0] for key in keys))
                for reply in itertools.islice(replies, len(keys)):
                    if reply not in STORED[load.protocol]:
                        raise Unusable(
                            f"it answered {shorten(reply)} to a PUT" if reply else "it closed the connection"
                        )
    except TimeoutError:
        raise Unusable(f"{load.keys} keys could not be stored within {LIMIT_S:g} s") from None
    except OSError as error:
        raise Unusable((error.strerror or str(error)).lower()) from None


def _lines(sock: socket.socket, deadline_s: float) -> Iterator[bytes]:
    """Yield reply lines; those that are too long are cut, and after the server has closed they are empty."""
    data = b""
    while True:
        line, feed, rest = data.partition(b"\n")
        if not feed and len(line) < LONGEST_REPLY_BYTES:
            if (left_s := deadline_s - time.monotonic()) <= 0:
                raise TimeoutError
            sock.settimeout(left_s)
            part = sock.recv(4096)
            if part:
                data += part
                continue
        yield line.rstrip(b"\r")
        data = rest
