"""One connection to a Valkey or Redis server: the part of the client library that the stores use.

The library connects, shakes hands and parses. Commands are packed here, in ten lines, because the library takes 1.6 us
for a command. Replies are read here, too: the library's read_response takes 1.5 us, of which parsing takes 0.2 us.
"""

import ssl
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol

from valkey.connection import Connection
from valkey.credentials import CredentialProvider

from kvss_gevent.stores.remote.access import Access

Address = tuple[str, int]

RawCommand = tuple[bytes, ...]

Reply = Any
"""What a server answers to one command: bytes, an int, None, a list, or a ResponseError."""


class Sender(Protocol):
    """Sends packed requests: send() sends what the kernel takes at once, sendall() waits until all is sent."""

    @property
    def send(self) -> Callable[[bytes], int]: ...
    def sendall(self, packed: bytes, /) -> None: ...


class Link(Protocol):
    """The library's connection. Its calls raise ValkeyError, OSError or ValueError."""

    def connect(self) -> None: ...
    def disconnect(self) -> None: ...
    def can_read(self, timeout: float) -> bool: ...
    def socket(self) -> Sender: ...

    @property
    def read_reply(self) -> Callable[[], Reply]: ...


def settings(address: Address, timeout_s: float, access: Access) -> dict[str, Any]:
    """Return the arguments of a connection that waits at most timeout_s at a time and never repeats anything."""
    host, port = address
    return {
        "host": host,
        "port": port,
        "db": access.db,
        "credential_provider": Credentials(access) if access.password else None,
        "tls": access.tls,
        "socket_timeout": timeout_s,
        "retry_on_timeout": False,
        "health_check_interval": 0,
        "lib_name": None,
        "lib_version": None,
    }


PACKED_GET = b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n"
"""A GET as it is sent, to be formatted with the length of a key and the key."""


def pack(commands: Iterable[RawCommand]) -> bytes:
    """Return commands as they are sent (RESP)."""
    parts = []
    for command in commands:
        if command[0] == b"GET":
            parts.append(PACKED_GET % (len(command[1]), command[1]))
            continue
        parts.append(b"*%d\r\n" % len(command))
        for argument in command:
            parts.append(b"$%d\r\n%b\r\n" % (len(argument), argument))
    return b"".join(parts)


class Credentials(CredentialProvider):
    """Gives the library user and password at each connection."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """Return the words after AUTH. Raises ConnectionError if the password cannot be read."""
        assert self._access.password
        try:
            password = self._access.password()
        except (OSError, ValueError) as error:
            raise ConnectionError(f"the store's password cannot be read: {error}") from None
        return (self._access.user, password) if self._access.user else (password,)


class PlainConnection(Connection):
    """The library's connection with its socket, returning refusals instead of raising them."""

    def __init__(self, tls: ssl.SSLContext | None, **settings: Any) -> None:
        super().__init__(**settings)  # type: ignore[no-untyped-call]
        self.tls = tls
        self.read_reply: Callable[[], Reply] = partial(self._parser.read_response, disable_decoding=True)
        """Reads the next reply; one that refuses a command is a ResponseError. Raises ValkeyError or OSError."""

    def _connect(self) -> Any:
        """Connect, and do the handshake of TLS; called by the library. Raises OSError."""
        sock = super()._connect()  # type: ignore[no-untyped-call]
        return self.tls.wrap_socket(sock, server_hostname=self.host) if self.tls else sock

    def socket(self) -> Sender:
        """Return the present socket, for sending. Raises ConnectionError if there is none."""
        if self._sock is None:
            raise ConnectionError("not connected")
        sock: Sender = self._sock
        return sock


def connect_to(address: Address, timeout_s: float, access: Access) -> Link:
    """Return a connection, not yet open, with these settings."""
    link: Link = PlainConnection(**settings(address, timeout_s, access))
    return link
