"""Kinds of option values: how each is read from text, shown as text, and described to people."""

import re
from argparse import ArgumentTypeError
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from kvss_gevent.settings.addresses import MAX_PORT, parse_endpoint, parse_host, parse_port, parse_unix_path

_SIZE: Final = re.compile(r"(\d{1,18})\s*([KMG]?)i?B?", re.IGNORECASE | re.ASCII)
_FACTORS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}

MAX_BYTES: Final = 1 << 50
"""A pebibyte. A larger size is a mistake, and other libraries keep some sizes in 64 bits."""
MAX_SECONDS: Final = 1e6
MAX_COUNT: Final = 10_000_000
MAX_WORKERS: Final = 1024
MAX_POOL_SIZE: Final = 1000
"""The most threads or processes: a machine has room for this many."""

STORE_FORMS: Final = (
    "memory:, disk:PATH, redis://HOST:PORT/DB or cluster://HOST:PORT,HOST:PORT; over TLS rediss:// or clusters://"
)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of value. read turns text into a value or raises ValueError; show is its reverse."""

    read: Callable[[str], Any]
    placeholder: str
    """What help writes for the value; empty for a switch, whose flag takes none."""
    takes: str
    """What can be given, in words."""
    show: Callable[[Any], str] = str
    says: Callable[[Any], str] | None = None
    """How help shows a default, if not with show."""


def _whole(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= 18 and least <= int(text) <= most):
            raise ValueError
        return int(text)

    return read


def _seconds(least: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        seconds = float(text)
        if not least <= seconds <= MAX_SECONDS:
            raise ValueError
        return seconds

    return read


def number(least: float, most: float, what: str = "number") -> Callable[[str], float]:
    """Return the argparse type of a number between two bounds, whose error says what is allowed."""

    def parse(text: str) -> float:
        try:
            found = float(text)
        except ValueError:
            found = float("nan")
        if not least <= found <= most:
            raise ArgumentTypeError(f"{text!r} is not a {what} from {least:g} to {most:.15g}")
        return found

    return parse


def seconds(least: float, most: float) -> Callable[[str], float]:
    """Return the argparse type of a time in seconds."""
    return number(least, most, "number of seconds")


def whole(least: int, most: int) -> Callable[[str], int]:
    """Return the argparse type of a whole number."""
    read = _whole(least, most)

    def parse(text: str) -> int:
        try:
            return read(text)
        except ValueError:
            raise ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}") from None

    return parse


def read_size(text: str, least: int = 1) -> int:
    """Return the bytes of a size such as 65536, 64K or 1M. Raises ValueError, also where it is out of bounds."""
    match = _SIZE.fullmatch(text)
    size = int(match[1]) * _FACTORS[match[2].upper()] if match else -1
    if not least <= size <= MAX_BYTES:
        raise ValueError
    return size


def _show_size(size: int) -> str:
    unit = next((unit for unit in "GMK" if size and size % _FACTORS[unit] == 0), "")
    return f"{size // _FACTORS[unit]}{unit}"


def _say_size(size: int) -> str:
    shown = _show_size(size)
    return f"{shown[:-1]} {shown[-1]}iB" if shown[-1] in _FACTORS else f"{shown} bytes"


def _switch(text: str) -> bool:
    if text not in ("on", "off"):
        raise ValueError
    return text == "on"


def _path(text: str) -> str:
    if not text or "\0" in text:
        raise ValueError
    return text


def _address(text: str) -> str:
    endpoint = parse_endpoint(text, least_port=0)
    if endpoint.user or endpoint.path:
        raise ValueError
    return str(endpoint)


def _store(text: str) -> str:
    if ":" not in text or "\0" in text:
        raise ValueError
    return text


def _name(text: str) -> str:
    if not re.fullmatch(r"[a-z][a-z-]*", text, re.ASCII):
        raise ValueError
    return text


def one_of(*names: str) -> Kind:
    """Return the kind whose values are these words."""

    def read(text: str) -> str:
        if text not in names:
            raise ValueError
        return text

    return Kind(read, "|".join(names), f"{', '.join(names[:-1])} or {names[-1]}")


HOST = Kind(lambda text: parse_host(text, ""), "HOST", "a host name or address")
ADDRESS = Kind(_address, "HOST:PORT", "HOST:PORT or a port", says=lambda address: address or "off")
PORT = Kind(lambda text: parse_port(text, "", 0), "PORT", f"a port from 0 to {MAX_PORT}")
UNIX_PATH = Kind(parse_unix_path, "PATH", "a path of at most 107 bytes", says=lambda path: path or "off")
STORE = Kind(_store, "URL", STORE_FORMS)
NAME = Kind(_name, "NAME", "a name in lower case")
PATH = Kind(_path, "PATH", "the path of a file", says=lambda path: path or "none")
SWITCH = Kind(_switch, "", "on or off", lambda on: "on" if on else "off")
NUMBER = Kind(_whole(0, MAX_COUNT), "N", f"a whole number from 0 to {MAX_COUNT}")
WORKERS = Kind(_whole(1, MAX_WORKERS), "N", f"a whole number from 1 to {MAX_WORKERS}")
POOL = Kind(_whole(1, MAX_POOL_SIZE), "N", f"a whole number from 1 to {MAX_POOL_SIZE}")
SIZE = Kind(read_size, "BYTES", "a size in bytes from 1 to 1048576G, such as 65536, 64K or 1M", _show_size, _say_size)
BOUND = Kind(
    lambda text: read_size(text, 0),
    "BYTES",
    "a size in bytes up to 1048576G, such as 65536, 64K or 1G, 0 for no limit",
    _show_size,
    lambda size: _say_size(size) if size else "no limit",
)
CLIENT_MEMORY = Kind(
    BOUND.read,
    "BYTES",
    "a size in bytes up to 1048576G, such as 65536, 64K or 1G, 0 for a quarter of the machine's memory",
    _show_size,
    lambda size: _say_size(size) if size else "a quarter of the machine's memory",
)
LIMIT = Kind(
    _seconds(0),
    "SECONDS",
    f"a time in seconds up to {MAX_SECONDS:.0f}, 0 for no limit",
    "{:g}".format,
    lambda seconds: f"{seconds:g} s" if seconds else "off",
)
MILLISECONDS = Kind(
    _whole(0, MAX_COUNT),
    "MS",
    f"a time in whole milliseconds up to {MAX_COUNT}, 0 for never",
    str,
    lambda ms: f"{ms} ms" if ms else "off",
)
WAIT = Kind(
    _seconds(0.001), "SECONDS", f"a time in seconds from 0.001 to {MAX_SECONDS:.0f}", "{:g}".format, "{:g} s".format
)
DRAIN = Kind(_seconds(0), "SECONDS", f"a time in seconds up to {MAX_SECONDS:.0f}", "{:g}".format, "{:g} s".format)
