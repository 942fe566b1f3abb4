"""One connection to a Valkey or Redis server: what the stores use of the client library, and how it is set up."""

from collections.abc import Sequence
from typing import Any, Protocol

Address = tuple[str, int]

RawCommand = tuple[bytes | int, ...]

Reply = Any
"""What a server answers to one command: bytes, an int, None, a list, or a ResponseError."""


class Link(Protocol):
    """The library's connection. Its calls raise ValkeyError, OSError or ValueError."""

    def connect(self) -> None: ...
    def disconnect(self) -> None: ...
    def can_read(self, timeout: float) -> bool: ...
    def pack_commands(self, commands: Sequence[RawCommand]) -> list[bytes]: ...
    def send_packed_command(self, command: list[bytes]) -> None: ...
    def send_command(self, *args: str) -> None: ...
    def read_response(self, disable_decoding: bool) -> Reply: ...


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


def connect_to(address: Address, timeout_s: float, db: int = 0) -> Link:
    """Return a connection, not yet open, with these settings."""
    from valkey.connection import Connection

    link: Link = Connection(**settings(address, timeout_s, db))  # type: ignore[no-untyped-call]
    return link
