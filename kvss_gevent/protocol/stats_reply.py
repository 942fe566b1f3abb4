"""The data of a STATS reply as numbers, read from either of its forms (rule 8). Writing it is the server's side."""

import re
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
    """A server's counters. None where the lab form does not tell.

    commands_processed counts the requests answered before this one, in both forms: the lab form's own number, which
    counts this one too, is one more.
    """

    uptime_s: int
    keys_stored: int
    commands_processed: int
    connections: int | None = None
    get_requests: int | None = None
    put_requests: int | None = None
    del_requests: int | None = None


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
