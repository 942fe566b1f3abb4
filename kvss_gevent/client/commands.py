"""Commands as data: the request line, and how its reply is read.

No sockets here. All clients build their commands here, so they send the same bytes and read the same replies.
"""

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple

from kvss_gevent.protocol.errors import KVStatusError
from kvss_gevent.protocol.foreign_protocols import is_foreign
from kvss_gevent.protocol.stats_reply import Stats, parse_stats
from kvss_gevent.protocol.wire import (
    MAX_EXPIRY_S,
    MAX_KEY_BYTES,
    OK_PREFIX,
    REPLY,
    VERSION,
    Status,
    checked_key,
    checked_value,
    request_line,
    shorten,
)

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # the default makes a bare `KVClient` in a signature mean KVClient[bytes]

    Text = TypeVar("Text", bytes, str, default=bytes)
else:
    from typing import TypeVar

    Text = TypeVar("Text", bytes, str)

T = TypeVar("T")

Result = bytes | str | bool | int | Stats | None
Outcome = Any
"""A command's result, or the KVStatusError that stands for it."""

PERMANENT: Final = -1
"""The result of ttl for a key that does not expire (rule 15)."""


class Command(NamedTuple, Generic[T]):
    """One request.

    line has its line feed. read turns a reply line with its line feed into a result; it returns a Status for a refusal,
    and raises ValueError for a line that is not a reply to this command. reads: whether the command changes nothing, so
    that it may be sent again.
    """

    word: str
    key: bytes
    line: bytes
    read: Callable[[bytes], T | Status]
    reads: bool = False

    def __str__(self) -> str:
        return f"{self.word} {shorten(self.key)[1:-1]}" if self.key else self.word


class Codec(NamedTuple, Generic[Text]):
    """Turns a program's keys and values into bytes, and back. encode's first argument names them in errors."""

    encode: Callable[[str, Text], bytes]
    decode: Callable[[bytes], Text]


class Commands(Generic[Text]):
    """Builds commands from keys and values.

    All methods raise ValueError for a key, value or time that KV/1.0 cannot carry, TypeError for one of a wrong type.
    """

    __slots__ = ("_encode", "_read_value")

    def __init__(self, codec: Codec[Text]) -> None:
        self._encode: Callable[[str, Text], bytes] = codec.encode
        decode = codec.decode

        def read_value(line: bytes) -> Text | Status | None:
            if line.startswith(OK_PREFIX) and len(line) > len(OK_PREFIX) + 1:
                return decode(line[len(OK_PREFIX) : -1])
            return _read_missing(line)

        self._read_value: Callable[[bytes], Text | Status | None] = read_value

    def get(self, key: Text) -> Command[Text | None]:
        """The value, or None if there is no such key."""
        data = self._key(key)
        return Command("GET", data, request_line(b"GET", data), self._read_value, True)

    def put(self, key: Text, value: Text, ttl_s: int | None = None) -> Command[bool]:
        """True if the key is new, False if a value was replaced."""
        data = self._key(key)
        content = checked_value(self._encode("value", value))
        if ttl_s is None:
            return Command("PUT", data, request_line(b"PUT", data, content), _read_put)
        return Command("PUTEX", data, request_line(b"PUTEX", _seconds("ttl_s", ttl_s), data, content), _read_put)

    def delete(self, key: Text) -> Command[bool]:
        """True if the key was there."""
        data = self._key(key)
        return Command("DEL", data, request_line(b"DEL", data), _read_delete)

    def expire(self, key: Text, ttl_s: int) -> Command[bool]:
        """True if the key was there."""
        data = self._key(key)
        return Command("EXPIRE", data, request_line(b"EXPIRE", data, _seconds("ttl_s", ttl_s)), _read_done)

    def persist(self, key: Text) -> Command[bool]:
        """True if the key was there."""
        data = self._key(key)
        return Command("PERSIST", data, request_line(b"PERSIST", data), _read_done)

    def ttl(self, key: Text) -> Command[int | None]:
        """Whole seconds left, PERMANENT, or None if there is no such key."""
        data = self._key(key)
        return Command("TTL", data, request_line(b"TTL", data), _read_ttl, True)

    def _key(self, key: Text) -> bytes:
        data = self._encode("key", key)
        return data if _plain(data) else checked_key(data)  # one pattern costs a third of three checks

    @staticmethod
    def stats() -> Command[Stats]:
        """The server's counters."""
        return STATS


def auth(user: str, password: str) -> Command[None]:
    """The command that logs in (rule 12). Errors show its user and never its password."""
    name = user.encode()
    return Command("AUTH", name, request_line(b"AUTH", name, password.encode()), _read_auth)


def raw(line: bytes) -> Command[bytes]:
    """A line as it is, given without its line feed. Its result is the reply line as it is."""
    return Command("", b"", line + (b"\r\n" if line.endswith(b"\r") else b"\n"), lambda reply: reply[:-1])


def ends_connection(line: bytes) -> bool:
    """Tell whether the server closes the connection after its reply to a raw line (rules 5 and 9)."""
    return line == _QUIT or is_foreign(line)


def text_of(command: Command[Any] | None) -> str:
    """Return the command's text for an error; empty without a command."""
    return "" if command is None else str(command)


def accepted(outcomes: list[Outcome]) -> list[Outcome]:
    """Return the outcomes of a pipeline. Raises the first refusal among them, with all outcomes as its results."""
    for refusal in outcomes:
        if isinstance(refusal, KVStatusError):
            refusal.results = outcomes
            raise refusal
    return outcomes


def _encode_bytes(name: str, data: bytes) -> bytes:
    if not isinstance(data, bytes):
        hint = ', unless the client has encoding="utf-8"' if isinstance(data, str) else ""
        raise TypeError(f"a {name} is bytes, not {type(data).__name__}{hint}")
    return data


def _encode_text(name: str, data: str) -> bytes:
    if not isinstance(data, str):
        raise TypeError(f'with encoding="utf-8" a {name} is str, not {type(data).__name__}')
    return data.encode()


BYTES: Final[Codec[bytes]] = Codec(_encode_bytes, lambda data: data)
TEXT: Final[Codec[str]] = Codec(_encode_text, bytes.decode)

_plain: Final = re.compile(rb"[!-~]{1,%d}" % MAX_KEY_BYTES).fullmatch
_QUIT: Final = VERSION + b" QUIT"
_REFUSALS: Final = {
    REPLY[status] + b"\n": status
    for status in Status
    if status not in (Status.OK, Status.CREATED, Status.NO_CONTENT, Status.NOT_FOUND)
}


def _reader(results: Mapping[Status, T]) -> Callable[[bytes], T | Status]:
    """Return a function that looks up a whole reply line. So data is never taken for a status."""
    table: dict[bytes, T | Status] = {REPLY[status] + b"\n": result for status, result in results.items()}
    table.update(_REFUSALS)

    def read(line: bytes) -> T | Status:
        try:
            return table[line]
        except KeyError:
            raise ValueError(f"{shorten(line[:-1])} is not a reply to this command") from None

    return read


_read_put: Final = _reader({Status.CREATED: True, Status.OK: False})
_read_delete: Final = _reader({Status.NO_CONTENT: True, Status.NOT_FOUND: False})
_read_done: Final = _reader({Status.OK: True, Status.NOT_FOUND: False})
_read_missing: Final = _reader({Status.NOT_FOUND: None})
_read_refusal: Final[Callable[[bytes], Status]] = _reader({})


def _read_stats(line: bytes) -> Stats | Status:
    return parse_stats(line[len(OK_PREFIX) : -1]) if line.startswith(OK_PREFIX) else _read_refusal(line)


def _read_ttl(line: bytes) -> int | Status | None:
    number = line[len(OK_PREFIX) : -1]
    if line.startswith(OK_PREFIX) and len(number) <= 10 and number.removeprefix(b"-").isdigit():
        return int(number)
    return _read_missing(line)


def _read_auth(line: bytes) -> Status | None:
    return None if line.startswith(OK_PREFIX) else _read_refusal(line)


def _seconds(name: str, seconds: int) -> bytes:
    if not isinstance(seconds, int) or isinstance(seconds, bool):
        raise TypeError(f"{name} is a whole number of seconds, not {seconds!r}")
    if not 0 < seconds <= MAX_EXPIRY_S:
        raise ValueError(f"{name} is 1 to {MAX_EXPIRY_S} seconds, not {seconds}")
    return b"%d" % seconds


STATS: Final[Command[Stats]] = Command("STATS", b"", request_line(b"STATS"), _read_stats, True)
