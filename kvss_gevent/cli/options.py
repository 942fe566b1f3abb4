"""Derives flags, KVSS_* variables and help texts from the fields of Config, and parses their values."""

import argparse
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from kvss_gevent.models import MODULES
from kvss_gevent.settings.config import Config
from kvss_gevent.settings.fail import Fail
from kvss_gevent.stores.open import FORMS

_SIZE = re.compile(r"(\d+)\s*([KMG]?)i?B?", re.IGNORECASE | re.ASCII)
MAX_POOL_SIZE = 1000
"""Of --model pool and prefork: a machine has room for so many threads and processes."""

_FACTORS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def _port(text: str) -> int:
    port = _whole(text)
    if port > 65535:
        raise ValueError
    return port


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError
    return int(text)


def _count(text: str) -> int:
    count = _whole(text)
    if count == 0:
        raise ValueError
    return count


def _size(text: str) -> int:
    match = _SIZE.fullmatch(text)
    if not match or int(match[1]) == 0:
        raise ValueError
    return int(match[1]) * _FACTORS[match[2].upper()]


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= 1e6:
        raise ValueError
    return seconds


def _wait(text: str) -> float:
    seconds = _seconds(text)
    if seconds == 0:
        raise ValueError
    return seconds


def _format(text: str) -> str:
    if text not in ("readme", "lab"):
        raise ValueError
    return text


def _bound(text: str) -> int:
    return 0 if text == "0" else _size(text)


def _sync(text: str) -> str:
    if text not in ("always", "interval", "none"):
        raise ValueError
    return text


def _store(text: str) -> str:
    if ":" not in text:
        raise ValueError
    return text


def _model(text: str) -> str:
    if text not in MODULES:
        raise ValueError
    return text


def _switch(text: str) -> bool:
    if text not in ("on", "off"):
        raise ValueError
    return text == "on"


def _pool(text: str) -> int:
    size = _count(text)
    if size > MAX_POOL_SIZE:
        raise ValueError
    return size


def _host(text: str) -> str:
    if not text or any(character.isspace() for character in text):
        raise ValueError
    return text


KINDS: Mapping[str, tuple[Callable[[str], Any], str, str]] = {
    "model": (_model, "NAME", f"one of {', '.join(MODULES)}"),
    "switch": (_switch, "", "on or off"),
    "pool": (_pool, "N", f"a whole number from 1 to {MAX_POOL_SIZE}"),
    "host": (_host, "HOST", "a host name or address"),
    "port": (_port, "PORT", "a port from 0 to 65535"),
    "count": (_count, "N", "a whole number above 0"),
    "bytes": (_size, "BYTES", "a size in bytes, such as 65536, 64K or 1M"),
    "bound": (_bound, "BYTES", "a size in bytes, such as 65536, 64K or 1G, 0 for no limit"),
    "store": (_store, "URL", FORMS),
    "sync": (_sync, "always|interval|none", "always, interval or none"),
    "whole": (_whole, "N", "a whole number"),
    "wait": (_wait, "SECONDS", "a time in seconds above 0"),
    "seconds": (_seconds, "SECONDS", "a time in seconds, 0 for no limit"),
    "drain": (_seconds, "SECONDS", "a time in seconds"),
    "format": (_format, "readme|lab", "readme or lab"),
}
"""For each kind of option: its parser, which raises ValueError, its placeholder, and what it takes, in words."""


def variable(name: str) -> str:
    """Return the environment variable of a field, such as KVSS_MAX_LINE for max_line_bytes."""
    return "KVSS_" + re.sub("_(bytes|s)$", "", name).upper()


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add a flag for every field of Config that has one."""
    for field in fields(Config):
        meta = field.metadata
        if not meta["flag"].startswith("--"):
            continue
        placeholder = KINDS[meta["kind"]][1]
        takes: dict[str, Any] = {"metavar": placeholder} if placeholder else {"action": "store_const", "const": "on"}
        parser.add_argument(
            meta["flag"],
            dest=field.name,
            **takes,
            help=f"{meta['help']} ({_shown(field.default, meta['kind'])}; {variable(field.name)})",
        )


def to_config(given: Mapping[str, str | None], environ: Mapping[str, str] = os.environ) -> Config:
    """Build a Config from flags (None where not given), then variables, then defaults. Raises Fail."""
    values: dict[str, Any] = {}
    for field in fields(Config):
        parse, _, takes = KINDS[field.metadata["kind"]]
        source, text = field.metadata["flag"], given.get(field.name)
        if text is None:
            source = variable(field.name)
            text = environ.get(source)
        if text is None:
            continue
        try:
            values[field.name] = parse(text)
        except ValueError:
            raise Fail(f"{source} is {text!r}", f"Give {takes}.") from None
    return Config(**values)


def _shown(default: Any, kind: str) -> str:
    if kind == "switch":
        return "on" if default else "off"
    if kind == "bytes":
        return next(
            f"{default // factor} {unit}iB"
            for unit, factor in (("M", 1 << 20), ("K", 1 << 10))
            if default % factor == 0
        )
    if kind == "bound":
        return "no limit"
    if kind == "seconds":
        return f"{default:g} s" if default else "off"
    return f"{default:g} s" if kind in ("drain", "wait") else str(default)
