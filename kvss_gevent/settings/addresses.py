"""Addresses of servers: the one parser and formatter, for every command and library.

    HOST:PORT   HOST PORT   HOST   PORT   [IPV6]:PORT   kvss://USER@HOST:PORT   unix:PATH

Missing parts come from KVSS_HOST and KVSS_PORT, then from the protocol's own address.
"""

import os
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote

from kvss_gevent.protocol.errors import server_name
from kvss_gevent.protocol.wire import DEFAULT_HOST, DEFAULT_PORT, Verb
from kvss_gevent.settings.fail import Fail

FORMS: Final = "HOST:PORT, HOST PORT, [IPV6]:PORT or kvss://USER@HOST:PORT"
URL_SCHEME: Final = "kvss://"
UNIX_SCHEME: Final = "unix:"
MAX_PORT: Final = 65535
MAX_UNIX_PATH_BYTES: Final = 107
"""The kernel's limit for the path of a Unix socket; 103 on macOS."""

_HOST: Final = re.compile(r"[^\s/@:\[\]]+")
_COMMAND: Final = re.compile(r"[A-Z]+|KV/.*")
"""A first word that begins a request and is not a host, because commands are upper case."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server is: a host and a port, or the path of a Unix socket."""

    host: str
    port: int
    user: str = ""
    path: str = ""
    """The path of a Unix socket. If it is given, host and port are not used."""

    def __str__(self) -> str:
        return f"{UNIX_SCHEME}{self.path}" if self.path else server_name(self.host, self.port)

    @property
    def url(self) -> str:
        """The address with its user, in a form that parse_endpoint reads; a Unix socket keeps its own form."""
        user = f"{quote(self.user, safe='')}@" if self.user else ""
        return str(self) if self.path else f"{URL_SCHEME}{user}{self}"


def default_endpoint(environ: Mapping[str, str]) -> Endpoint:
    """Return the address of KVSS_HOST and KVSS_PORT, or the protocol's. Raises Fail."""
    host = environ.get("KVSS_HOST") or DEFAULT_HOST
    port = environ.get("KVSS_PORT")
    try:
        return Endpoint(
            parse_host(host, "KVSS_HOST"),
            parse_port(port, "KVSS_PORT", 1) if port else DEFAULT_PORT,
        )
    except ValueError as error:
        raise Fail(str(error), "Change the variable, or give the address on the command line.") from None


def parse_endpoint(text: str, default: Endpoint | None = None, *, least_port: int = 1) -> Endpoint:
    """Read an address that is one word. Missing parts come from the default. Raises ValueError with a sentence."""
    default = default or Endpoint(DEFAULT_HOST, DEFAULT_PORT)
    if text.startswith(UNIX_SCHEME):
        return Endpoint(default.host, default.port, path=parse_unix_path(text))
    user = ""
    place = text
    if "://" in text:
        if not text.startswith(URL_SCHEME):
            raise ValueError(f"the address {text!r} is not a {URL_SCHEME} URL")
        place = text.removeprefix(URL_SCHEME).removesuffix("/")
        name, at, place = place.rpartition("@")
        if ":" in name:
            raise ValueError(f"the address of {place} has a password in it, which other users of the machine can see")
        user = unquote(name)
        if at and not user:
            raise ValueError(f"the address {text!r} has no user before the @")
    host, port = _split(place, text)
    return Endpoint(
        parse_host(host, "HOST") if host else default.host,
        parse_port(port, "PORT", least_port) if port else default.port,
        user,
    )


def take_endpoint(
    words: Sequence[str],
    environ: Mapping[str, str] = os.environ,
    *,
    least_port: int = 1,
    default: Endpoint | None = None,
) -> tuple[Endpoint, list[str]]:
    """Take an address of one or two words from the beginning of words; return it and the words that are left.

    Missing parts come from the default, or else from the environment. If the first word is a command, such as GET,
    there is no address. Raises Fail.
    """
    default = default or default_endpoint(environ)
    rest = list(words)
    if not rest or _COMMAND.fullmatch(rest[0]):
        return default, rest
    first = rest.pop(0)
    try:
        if rest and _is_bare_host(first) and not _COMMAND.fullmatch(rest[0]):
            host = parse_host(first, "HOST")
            return Endpoint(host, parse_port(rest.pop(0), "PORT", least_port)), rest
        return parse_endpoint(first, default, least_port=least_port), rest
    except ValueError as error:
        remedy = f"Give {FORMS}, such as {server_name(DEFAULT_HOST, DEFAULT_PORT)}."
        if first.upper() in Verb.__members__:
            remedy = f"Commands are upper case: {first.upper()}. An address is {FORMS}."
        raise Fail(str(error), remedy) from None


def only_endpoint(words: Sequence[str], environ: Mapping[str, str] = os.environ, *, unix: bool = False) -> Endpoint:
    """Read all of the words as one address. Raises Fail, also for a Unix socket unless `unix` is true."""
    endpoint, rest = take_endpoint(words, environ)
    if rest:
        raise Fail(f"{rest[0]!r} is one word too many after the address {endpoint}", f"Give {FORMS}.")
    if endpoint.path and not unix:
        raise Fail(f"{endpoint} is a Unix socket, which this command does not use", f"Give {FORMS}.")
    return endpoint


def parse_host(text: str, source: str) -> str:
    """Check a host name or address without brackets. Raises ValueError that names the source."""
    host = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if not (_HOST.fullmatch(host) or _is_ipv6(host)):
        raise ValueError(f"{source} is {text!r}, which is not a host name or address")
    return host


def parse_port(text: str, source: str, least: int) -> int:
    """Read a port. Raises ValueError that names the source."""
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and least <= int(text) <= MAX_PORT):
        raise ValueError(f"{source} is {text!r}, which is not a number from {least} to {MAX_PORT}")
    return int(text)


def _split(place: str, text: str) -> tuple[str, str]:
    """Return host and port of HOST:PORT, `HOST PORT`, HOST, PORT or a bare IPv6 address; what is missing is empty."""
    words = place.split()
    if len(words) == 2 and words[1].isdigit():
        return words[0], words[1]
    if place.isascii() and place.isdigit():
        return "", place
    if place.startswith("["):
        host, bracket, port = place[1:].partition("]")
        if not bracket or not _is_ipv6(host) or (port and not port.startswith(":")) or port == ":":
            raise ValueError(f"the address {text!r} is not [IPV6]:PORT")
        return host, port[1:]
    if place.count(":") > 1:
        if _is_ipv6(place) and not re.search(r":[0-9]{4,5}$", place):
            return place, ""
        raise ValueError(f"the address {text!r} is ambiguous: an IPv6 address with a port needs brackets, [::1]:5050")
    host, colon, port = place.partition(":")
    if not host or (colon and not port):
        raise ValueError(f"the address {text!r} is not HOST:PORT")
    return host, port


def _is_ipv6(host: str) -> bool:
    if ":" not in host:
        return False
    try:
        socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    except OSError:
        return False
    return True


def _is_bare_host(word: str) -> bool:
    """Tell whether a word is a host without a port, so that the next word can be its port."""
    return not word.isdigit() and (_HOST.fullmatch(word) is not None or _is_ipv6(word.strip("[]")))


def parse_unix_path(text: str) -> str:
    """Check the path of a Unix socket, with or without `unix:` before it. Raises ValueError."""
    path = text.removeprefix(UNIX_SCHEME)
    if not path or "\0" in path:
        raise ValueError(f"the address {text!r} has no path after {UNIX_SCHEME}")
    if len(os.fsencode(path)) > MAX_UNIX_PATH_BYTES:
        raise ValueError(f"the path of the Unix socket is longer than {MAX_UNIX_PATH_BYTES} bytes: {path}")
    return path
