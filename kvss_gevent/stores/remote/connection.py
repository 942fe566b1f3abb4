"""One connection to a Valkey or Redis server: what the stores use of the client library, and how it is set up.

The library connects, shakes hands and parses. Commands are packed here: that is ten lines, and cost 1.6 us a command
there; its read_response spends 1.5 us around 0.2 us of parsing.
"""

from collections.abc import Iterable
from typing import Any, Protocol

from valkey.connection import Connection

Address = tuple[str, int]

RawCommand = tuple[bytes, ...]

Reply = Any
"""What a server answers to one command: bytes, an int, None, a list, or a ResponseError."""


class Link(Protocol):
    """The library's connection. Its calls raise ValkeyError, OSError or ValueError."""

    def connect(self) -> None: ...
    def disconnect(self) -> None: ...
    def can_read(self, timeout: float) -> bool: ...
    def send(self, packed: bytes) -> None: ...
    def read_reply(self) -> Reply: ...


def settings(address: Address, timeout_s: float, db: int = 0) -> dict[str, Any]:
    """Return the arguments of a connection that waits at most timeout_s at a time and never repeats anything."""
    host, port = address
    return {
        "host": host,
        "port": port,
        "db": db,
        "socket_timeout": timeout_s,
        "retry_on_timeout": False,
        "health_check_interval": 0,
        "lib_name": None,
        "lib_version": None,
    }


def pack(commands: Iterable[RawCommand]) -> bytes:
    """Return commands as they are sent (RESP)."""
    parts = []
    for command in commands:
        if command[0] == b"GET":
            key = command[1]
            parts.append(b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(key), key))
        else:
            parts.append(b"*%d\r\n" % len(command))
            parts += [b"$%d\r\n%b\r\n" % (len(argument), argument) for argument in command]
    return b"".join(parts)


class PlainConnection(Connection):
    """The library's connection, sending what was packed and returning refusals instead of raising them."""

    def send(self, packed: bytes) -> None:
        """Send all of it. Raises OSError."""
        if self._sock is None:
            raise ConnectionError("not connected")
        self._sock.sendall(packed)

    def read_reply(self) -> Reply:
        """Read the next reply; one that refuses a command is a ResponseError. Raises ValkeyError or OSError."""
        return self._parser.read_response(disable_decoding=True)


def connect_to(address: Address, timeout_s: float, db: int = 0) -> Link:
    """Return a connection, not yet open, with these settings."""
    link: Link = PlainConnection(**settings(address, timeout_s, db))  # type: ignore[no-untyped-call]
    return link
