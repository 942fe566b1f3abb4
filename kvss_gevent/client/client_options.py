"""The options of a client: one checked configuration for the clients and pools of threads and of asyncio."""

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypedDict, cast

from kvss_gevent.client.commands import BYTES, TEXT, Codec, Command, auth
from kvss_gevent.protocol.errors import KVConnectError, KVConnectionLost, KVError, KVTimeout

if TYPE_CHECKING:
    import ssl

MAX_TIMEOUT_S: Final = 1_000_000.0
UNIX: Final = "unix:"
"""A host that begins with it is the path of a Unix socket. Its port is 0."""


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a call is tried again, and the pauses between tries.

    Only safe calls are tried again: any call for which nothing was sent (KVConnectError), and commands that only read,
    after KVTimeout or KVConnectionLost. A write that may have run is never repeated.

    attempts counts the first try, too. The pause before try n + 1 is random, at most pause_s * 2**(n - 1) and at most
    max_pause_s. So many clients do not come back at the same time.
    """

    attempts: int = 3
    pause_s: float = 0.05
    max_pause_s: float = 1.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.pause_s < 0 or self.max_pause_s < 0:
            raise ValueError("a retry has at least one attempt, and pauses of 0 s or more")

    def pause_before_next_s(self, tries: int, error: KVError, *, reads: bool) -> float | None:
        """Return the pause before another try; None for no other try. reads: whether all commands only read."""
        harmless = isinstance(error, KVConnectError) or (reads and isinstance(error, KVTimeout | KVConnectionLost))
        if not harmless or tries >= self.attempts:
            return None
        import random  # takes 5 ms, which most programs need not spend

        return random.uniform(0, min(self.max_pause_s, self.pause_s * 2 ** (tries - 1)))


NO_RETRY: Final = Retry(attempts=1)


class ClientOptions(TypedDict, total=False):
    """The keyword arguments of every client and pool.

    user and password log every connection in (rule 12). tls is True for the system's certificate authorities, the path
    of a file of authorities, or an ssl.SSLContext. connect_timeout_s bounds connecting: without asyncio, to each
    address of the host. It does not bound looking up a name. timeout_s bounds the wait for each whole reply and for
    other calls, and max_reply_bytes the length of one reply. Without retry, nothing is tried again.
    """

    user: str | None
    password: str | None
    tls: "bool | str | os.PathLike[str] | ssl.SSLContext"
    connect_timeout_s: float
    timeout_s: float
    max_reply_bytes: int
    retry: Retry


class PoolOptions(ClientOptions, total=False):
    """The keyword arguments of the pools: those of ClientOptions, and how the pool behaves.

    size is the largest number of connections. wait_s is the longest wait for a free one. A connection that was not used
    for check_after_s first gets a STATS, and is replaced if it does not answer within connect_timeout_s.
    """

    size: int
    wait_s: float
    check_after_s: float


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """A server's address and the options of ClientOptions, checked.

    Raises TypeError for a value of a wrong type and ValueError for one out of range, with a sentence.
    """

    host: str
    port: int
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: "bool | str | os.PathLike[str] | ssl.SSLContext" = False
    connect_timeout_s: float = 5.0
    timeout_s: float = 30.0
    max_reply_bytes: int = 64 << 20
    retry: Retry = NO_RETRY

    def __post_init__(self) -> None:
        _check_address(self.host, self.port)
        for name in ("connect_timeout_s", "timeout_s"):
            seconds = getattr(self, name)
            _check_number(name, seconds, "a number of seconds, such as 2.5")
            if not 0 < seconds <= MAX_TIMEOUT_S:
                raise ValueError(f"{name} is above 0 and at most {MAX_TIMEOUT_S:.0f}, not {seconds}")
        _check_number("max_reply_bytes", self.max_reply_bytes, "a number of bytes")
        if self.max_reply_bytes < 1:
            raise ValueError(f"max_reply_bytes is at least 1, not {self.max_reply_bytes}")
        if not isinstance(self.tls, bool | str | os.PathLike) and type(self.tls).__name__ != "SSLContext":
            raise TypeError(f"tls is True, the path of a file of authorities or an ssl.SSLContext, not {self.tls!r}")
        if not isinstance(self.retry, Retry):
            raise TypeError(f"retry is a Retry, such as Retry(attempts=3), not {self.retry!r}")
        if (self.user is None) != (self.password is None):
            given, missing = ("password", "user") if self.user is None else ("user", "password")
            raise ValueError(f"{given} needs {missing} beside it")
        if self.user is not None and self.password is not None:
            _check_login(self.user, self.password)

    def login(self) -> Command[None] | None:
        """Return the command that every connection begins with, or None if there is no user."""
        return None if self.user is None or self.password is None else auth(self.user, self.password)

    def tls_context(self) -> "ssl.SSLContext | None":
        """Return the TLS context, or None without TLS. Raises OSError for a file that has no certificates."""
        if self.tls is False:
            return None
        import ssl  # takes 10 ms, which most programs need not spend

        if isinstance(self.tls, ssl.SSLContext):
            return self.tls
        return ssl.create_default_context(cafile=None if self.tls is True else os.fspath(self.tls))


@dataclass(frozen=True, slots=True)
class PoolConfig:
    """How a pool behaves; see PoolOptions. It is checked as ClientConfig is."""

    size: int = 8
    wait_s: float = 30.0
    check_after_s: float = 10.0

    def __post_init__(self) -> None:
        if not isinstance(self.size, int) or isinstance(self.size, bool):
            raise TypeError(f"size is a number of connections, not {self.size!r}")
        if self.size < 1:
            raise ValueError(f"a pool has a size of at least 1, not {self.size}")
        for name in ("wait_s", "check_after_s"):
            seconds = getattr(self, name)
            _check_number(name, seconds, "a number of seconds, such as 2.5")
            if not 0 <= seconds <= MAX_TIMEOUT_S:
                raise ValueError(f"{name} is at least 0 and at most {MAX_TIMEOUT_S:.0f}, not {seconds}")

    @classmethod
    def split(cls, options: "PoolOptions") -> "tuple[PoolConfig, ClientOptions]":
        """Return the pool's own options, checked, and the other options. Raises TypeError and ValueError."""
        rest: dict[str, Any] = {**options}
        own = {name: rest.pop(name) for name in cls.__slots__ if name in rest}
        return cls(**own), cast(ClientOptions, rest)


def codec_of(encoding: str | None) -> Codec[Any]:
    """Return the codec of a program's keys and values. Raises ValueError for an encoding that is not UTF-8."""
    if encoding is None:
        return BYTES
    if encoding.lower() not in ("utf-8", "utf8"):
        raise ValueError(f'encoding is None for bytes or "utf-8" for str, not {encoding!r}: KV/1.0 is UTF-8')
    return TEXT


def take_url(url: str, options: ClientOptions) -> tuple[str, int]:
    """Return host and port of a URL. A user in it is added to the options. Raises ValueError."""
    from kvss_gevent.settings.addresses import parse_endpoint  # only programs that use URLs need to load it

    if not isinstance(url, str):
        raise TypeError(f'a URL is text, such as "kvss://127.0.0.1:5050", not {url!r}')
    endpoint = parse_endpoint(url)
    if endpoint.user:
        options["user"] = endpoint.user
    return (f"{UNIX}{endpoint.path}", 0) if endpoint.path else (endpoint.host, endpoint.port)


def _check_address(host: object, port: object) -> None:
    if not isinstance(host, str):
        raise TypeError(f'host is text, such as "127.0.0.1", not {host!r}')
    if isinstance(port, str):
        raise TypeError(f"port is a number, such as 5050, not the text {port!r}")
    _check_number("port", port, "a number, such as 5050")
    if host.startswith(UNIX):
        return
    if "://" in host:
        raise ValueError(f"host must be a name or an address, not the URL {host!r}: use from_url")
    if host.count(":") == 1:
        raise ValueError(f"host must be only a name or an address, not {host!r}: the port is the second argument")
    if not isinstance(port, int) or not 0 < port < 1 << 16:
        raise ValueError(f"a port is 1 to 65535, not {port}")


def _check_number(name: str, value: object, what: str) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} is {what}, not {value!r}")


def _check_login(user: str, password: str) -> None:
    for name, text in (("user", user), ("password", password)):
        if not isinstance(text, str):
            raise TypeError(f"{name} is text, not {type(text).__name__}")
        if not text or "\n" in text:
            raise ValueError(f"{name} must have at least one character and no line feed")
    if " " in user:
        raise ValueError(f"user must not contain a space, unlike {user!r}")
