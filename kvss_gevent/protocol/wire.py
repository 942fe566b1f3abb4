"""KV/1.0 as constants and pure functions: the bytes of one line go in, data comes out. No sockets, state or time.

Rule numbers are those of docs/protocol.md.
"""

from enum import IntEnum
from typing import Final

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 5050
VERSION: Final = b"KV/1.0"
MAX_KEY_BYTES: Final = 511
MAX_LINE_BYTES: Final = 1 << 20
MAX_EXPIRY_S: Final = 1_000_000_000
"""The longest time that a key can be given (rule 15)."""


class Status(IntEnum):
    """The reply codes; the number is the code and the name the phrase (rule 11)."""

    OK = 200
    CREATED = 201
    NO_CONTENT = 204
    BAD_REQUEST = 400
    UNAUTHORIZED = 401
    FORBIDDEN = 403
    NOT_FOUND = 404
    UPGRADE_REQUIRED = 426
    SERVER_ERROR = 500


class Verb(IntEnum):
    """The commands of KV/1.0 (rule 6), and from PUTEX on those of keys that expire (rule 15)."""

    GET = 1
    PUT = 2
    DEL = 3
    STATS = 4
    QUIT = 5
    PUTEX = 6
    EXPIRE = 7
    TTL = 8
    PERSIST = 9


# Looked up once: an attribute of an enum costs 40 ns, and every request that is parsed needs one.
GET, PUT, DEL, STATS, QUIT = Verb.GET, Verb.PUT, Verb.DEL, Verb.STATS, Verb.QUIT
PUTEX, EXPIRE, TTL, PERSIST = Verb.PUTEX, Verb.EXPIRE, Verb.TTL, Verb.PERSIST

EXPIRY_VERBS: Final = frozenset({PUTEX, EXPIRE, TTL, PERSIST})
READING_VERBS: Final = frozenset({GET, TTL})
"""Verbs of keys that write nothing."""
KEY_VERBS: Final = frozenset({GET, PUT, DEL}) | EXPIRY_VERBS

Request = tuple[Verb | Status, bytes, bytes]
"""Verb, key, value; an absent key or value is empty.

In a refused request, the status of the reply stands in place of the verb.

The value of EXPIRE is its seconds, in decimal digits; that of PUTEX is its seconds, one space, and the value to store.
"""

REPLY: Final[dict[Status, bytes]] = {status: b"%d %s" % (status, status.name.encode()) for status in Status}
"""The reply line of each status, without data and without the line feed."""

LINE: Final[dict[Status, bytes]] = {status: reply + b"\n" for status, reply in REPLY.items()}
"""The same with a line feed, as it is sent."""

GET_PREFIX: Final = VERSION + b" GET "
DEL_PREFIX: Final = VERSION + b" DEL "
GET_LINE: Final = GET_PREFIX + b"%b\n"
"""A key is formatted into it. This takes a third less time than two concatenations."""
PUT_PREFIX: Final = VERSION + b" PUT "
OK_PREFIX: Final = REPLY[Status.OK] + b" "
BYE: Final = OK_PREFIX + b"bye"


def parse_request(line: bytes) -> Request:
    """Parse one request line, without its line feed, that is known to be UTF-8 (rules 5 to 7 and 15).

    A session has the three cases of GET, PUT and DEL in its loop, too. If it called a function of this module for them,
    a PUT of 16 bytes would cost 10 % more in a pipeline and 4 % more alone, counted in instructions. One pattern for
    `re` takes twice as long as `split`.
    """
    match line.split(b" ", 3):
        case [b"KV/1.0", b"PUT", key, value] if value and 0 < len(key) <= MAX_KEY_BYTES:
            return PUT, key, value
        case [b"KV/1.0", b"GET", key] if 0 < len(key) <= MAX_KEY_BYTES:
            return GET, key, b""
        case [b"KV/1.0", b"DEL", key] if 0 < len(key) <= MAX_KEY_BYTES:
            return DEL, key, b""
        case [b"KV/1.0", b"STATS"]:
            return STATS, b"", b""
        case [b"KV/1.0", b"QUIT"]:
            return QUIT, b"", b""
        case [b"KV/1.0", *_]:
            return _parse_expiry(line)
    return Status.UPGRADE_REQUIRED, b"", b""


def parse_strictly(line: bytes) -> Request:
    """Parse a request line where only the five commands of the course document exist."""
    request = parse_request(line)
    return (Status.BAD_REQUEST, b"", b"") if request[0] in EXPIRY_VERBS else request


def _parse_expiry(line: bytes) -> Request:
    match line.split(b" ", 4)[1:]:
        case [b"PUTEX", seconds, key, value] if value and 0 < len(key) <= MAX_KEY_BYTES and (time := _time(seconds)):
            return PUTEX, key, b"%b %b" % (time, value)
        case [b"EXPIRE", key, seconds] if 0 < len(key) <= MAX_KEY_BYTES and (time := _time(seconds)):
            return EXPIRE, key, time
        case [b"TTL", key] if 0 < len(key) <= MAX_KEY_BYTES:
            return TTL, key, b""
        case [b"PERSIST", key] if 0 < len(key) <= MAX_KEY_BYTES:
            return PERSIST, key, b""
    return Status.BAD_REQUEST, b"", b""


def _time(seconds: bytes) -> bytes:
    """Return the digits of a time without leading zeros; empty bytes if it is not valid (rule 15)."""
    digits = seconds.lstrip(b"0")
    fits = digits.isdigit() and len(digits) <= len(str(MAX_EXPIRY_S)) and int(digits) <= MAX_EXPIRY_S
    return digits if fits else b""


def build_request(verb: Verb, key: bytes = b"", value: bytes = b"") -> bytes:
    """Return the request line of one of the course document's commands, with its line feed.

    Raises ValueError, saying what is wrong, for a key or value that KV/1.0 cannot carry (rules 1, 3 and 7).
    """
    parts = [verb.name.encode()]
    if verb in (Verb.GET, Verb.PUT, Verb.DEL):
        parts.append(checked_key(key))
    if verb is Verb.PUT:
        parts.append(checked_value(value))
    return request_line(*parts)


def request_line(*words: bytes) -> bytes:
    """Return the request line, with its line feed, of words that are known to be valid."""
    line = b" ".join((VERSION, *words))
    # A server drops one carriage return before the line feed (rule 1). So a line that ends in one is sent with another.
    return line + (b"\r\n" if line.endswith(b"\r") else b"\n")


def parse_reply(line: bytes) -> tuple[Status, bytes]:
    """Split one reply line, without its line feed, into status and data. Data may be empty.

    Raises ValueError for a line that no KV/1.0 server sends (rule 11).
    """
    if line.startswith(OK_PREFIX):
        return Status.OK, line[len(OK_PREFIX) :]
    status = _STATUS_OF.get(line)
    if status is None:
        raise ValueError(f"not a KV/1.0 reply: {shorten(line)}")
    return status, b""


def shorten(data: bytes, limit: int = 60) -> str:
    """Show bytes from a peer to a person: quoted, control characters escaped, cut after limit bytes."""
    text = repr(data[:limit])[1:]
    return text if len(data) <= limit else f"{text}... ({len(data)} bytes)"


def asked(head: bytes) -> str:
    """Return verb and key of the request that begins here, never a value; `(more)` if no request begins here."""
    line, _, rest = head.partition(b"\n")
    version, *words = line.split(b" ", 3)
    if version != VERSION or not words:
        return "(more)"
    more = " and more" if rest else ""
    return b" ".join(words[:2]).decode("utf-8", "replace") + more


_STATUS_OF: Final = {reply: status for status, reply in REPLY.items()}


def checked_key(key: bytes) -> bytes:
    """Return a key that KV/1.0 can carry; raises ValueError for any other."""
    if not 0 < len(key) <= MAX_KEY_BYTES:
        raise ValueError(f"a key has 1 to {MAX_KEY_BYTES} bytes, this one has {len(key)}")
    if b" " in key or b"\n" in key:
        raise ValueError(f"a key must not contain a space or a line feed: {shorten(key)}")
    return _checked_utf8(key, "key")


def checked_value(value: bytes) -> bytes:
    """Return a value that KV/1.0 can carry; raises ValueError for any other."""
    if not value:
        raise ValueError("a value must have at least one byte")
    if b"\n" in value:
        raise ValueError("a value must not contain a line feed, which ends a request in KV/1.0")
    return _checked_utf8(value, "value")


def _checked_utf8(data: bytes, what: str) -> bytes:
    if not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError:
            raise ValueError(f"a {what} is UTF-8: {shorten(data)}") from None
    return data
