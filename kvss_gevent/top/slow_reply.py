"""Reads the reply to SLOWLOG (rule 16). Any server may send anything: what has another form is no slow log."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from kvss_gevent.protocol.wire import OK_PREFIX

MOST: Final = 1e12
"""Larger numbers do not come from this server. As a time it is the year 33658, which every library can show."""


@dataclass(frozen=True, slots=True)
class SlowEntry:
    """What held the loop or the store for long."""

    at_s: float
    """When it ended, by the server's wall clock."""
    ms: float
    held: str
    command: str
    client: str
    """Empty where no client is known to have held it."""
    waited: float
    """Requests that may have waited for it."""
    without_core_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class BusyClient:
    """What one of the busiest clients sends and gets in a second."""

    client: str
    packets_per_s: float
    bytes_in_per_s: float
    bytes_out_per_s: float


@dataclass(frozen=True, slots=True)
class SlowReply:
    """A whole reply to SLOWLOG."""

    slow_ms: int
    """The threshold; 0 if the server keeps no slow log."""
    entries: Sequence[SlowEntry]
    clients: Sequence[BusyClient]


def parse_slow_reply(reply: bytes) -> SlowReply:
    """Read a reply line. Raises ValueError for anything that this server does not send."""
    try:
        found = json.loads(reply.removeprefix(OK_PREFIX))
        return SlowReply(
            int(_number(found["slow_ms"])),
            [_entry(one) for one in _list(found["entries"])],
            [_client(one) for one in _list(found["clients"])],
        )
    except (KeyError, TypeError, RecursionError):
        raise ValueError("not a reply to SLOWLOG") from None


def _entry(one: Any) -> SlowEntry:
    return SlowEntry(
        _number(one["at"]),
        _number(one["ms"]),
        _text(one["held"]),
        _text(one["command"]),
        _text(one["client"]),
        _number(one["waited"]),
        _number(one.get("without_core_ms", 0)),
    )


def _client(one: Any) -> BusyClient:
    return BusyClient(
        _text(one["client"]),
        _number(one["packets_per_s"]),
        _number(one["bytes_in_per_s"]),
        _number(one["bytes_out_per_s"]),
    )


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or not 0 <= value <= MOST:  # NaN is not in between either
        raise TypeError
    return value
