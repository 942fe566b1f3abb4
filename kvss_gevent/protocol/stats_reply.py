"""Writes and reads the data of a STATS reply, in the form of the course document and of the lab sheet (rule 8)."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kvss_gevent.protocol.wire import shorten

_N = rb"(\d{1,18})"
_README = re.compile(
    rb"uptime: (?:%(n)s days?, )?%(n)s:(\d\d):(\d\d); connections: %(n)s; commands_processed: %(n)s; "
    rb"get_requests: %(n)s; put_requests: %(n)s; del_requests: %(n)s; keys_stored: %(n)s" % {b"n": _N}
)
_LAB = re.compile(rb"keys=%(n)s uptime=%(n)ss served=%(n)s" % {b"n": _N})


@dataclass(frozen=True, slots=True)
class Stats:
    """A server's counters.

    A counter that the lab form does not have is None. commands_processed counts the requests answered before this one.
    The number in the lab form counts this one, too, so it is one more.
    """

    uptime_s: int
    keys_stored: int
    commands_processed: int
    connections: int | None = None
    get_requests: int | None = None
    put_requests: int | None = None
    del_requests: int | None = None


def readme_form(stats: Stats) -> str:
    """Return the counters in the course document's form."""
    minutes, seconds = divmod(stats.uptime_s, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    day_part = "" if days == 0 else f"{days} day{'s' if days > 1 else ''}, "
    return (
        f"uptime: {day_part}{hours}:{minutes:02}:{seconds:02}; connections: {stats.connections}; "
        f"commands_processed: {stats.commands_processed}; get_requests: {stats.get_requests}; "
        f"put_requests: {stats.put_requests}; del_requests: {stats.del_requests}; keys_stored: {stats.keys_stored}"
    )


def lab_form(stats: Stats) -> str:
    """Return the counters in the lab sheet's form."""
    return f"keys={stats.keys_stored} uptime={stats.uptime_s}s served={stats.commands_processed + 1}"


FORMS: Mapping[str, Callable[[Stats], str]] = {"readme": readme_form, "lab": lab_form}
"""The forms by the names that --stats-format takes."""


def parse_stats(data: bytes) -> Stats:
    """Read the data of a STATS reply in the readme form or the lab form. Raises ValueError for anything else."""
    if match := _README.fullmatch(data):
        days, hours, minutes, seconds, connections, commands, gets, puts, dels, keys = (
            int(n or 0) for n in match.groups()
        )
        uptime_s = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
        return Stats(uptime_s, keys, commands, connections, gets, puts, dels)
    if match := _LAB.fullmatch(data):
        keys, uptime_s, served = map(int, match.groups())
        return Stats(uptime_s, keys, served - 1)
    raise ValueError(f"not the data of a STATS reply: {shorten(data)}")
