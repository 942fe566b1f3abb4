"""Reads counters from a STATS reply in one of its two forms (rule 8), or in another form by the counters' names."""

import re
from typing import Final

README: Final = "readme"
LAB: Final = "lab"
ANY: Final = "any"

UPTIME: Final = rb"(?:1 day, |(?:[2-9]|[1-9]\d+) days, )?(?:1?\d|2[0-3]):[0-5]\d:[0-5]\d"
_COUNTERS: Final = (
    b"connections",
    b"commands_processed",
    b"get_requests",
    b"put_requests",
    b"del_requests",
    b"keys_stored",
)

FORMS: Final[dict[str, re.Pattern[bytes]]] = {
    README: re.compile(
        rb"200 OK uptime: (?P<uptime>" + UPTIME + rb")" + b"".join(rb"; %b: (?P<%b>\d+)" % (n, n) for n in _COUNTERS)
    ),
    LAB: re.compile(rb"200 OK keys=(?P<keys_stored>\d+) uptime=(?P<uptime>\d+)s served=(?P<commands_processed>\d+)"),
}
"""The pattern of the whole line, by the name of the form; its groups have the names of the course document."""

EXAMPLE: Final[dict[str, bytes]] = {
    README: b"200 OK uptime: 0:05:23; connections: 1; commands_processed: 6; get_requests: 3; put_requests: 2; "
    b"del_requests: 1; keys_stored: 0",
    LAB: b"200 OK keys=0 uptime=323s served=7",
}


_NAMED: Final = re.compile(rb"([A-Za-z_ ]+?)\s*[:=]\s*(\d+(?::\d\d)*)")
_MEANT: Final = {
    "uptime": re.compile(rb".*uptime.*"),
    "get_requests": re.compile(rb"(?:.*_)?gets?(?:_.*)?"),
    "put_requests": re.compile(rb"(?:.*_)?puts?(?:_.*)?"),
    "del_requests": re.compile(rb"(?:.*_)?dels?(?:_.*)?"),
    "connections": re.compile(rb".*(?:connection|client).*"),
    "keys_stored": re.compile(rb".*(?:keys?|items|entries|size)(?:_.*)?"),
    "commands_processed": re.compile(rb".*(?:served|commands|requests|processed).*"),
}
"""Patterns of a counter's names in other forms, by its name here; the first that matches is used."""


def form_of(line: bytes) -> str | None:
    """Return the name of the form of a reply line, None for another form."""
    return next((name for name, pattern in FORMS.items() if pattern.fullmatch(line)), None)


def read_counters(line: bytes, form: str) -> dict[str, int] | None:
    """Return the counters of a STATS reply line, with uptime in seconds; None if the line has another form."""
    found = FORMS[form].fullmatch(line)
    if found is None:
        return None
    counters = {name: _seconds(text) if name == "uptime" else int(text) for name, text in found.groupdict().items()}
    if form == LAB:
        counters["commands_processed"] -= 1  # served counts the STATS that asks (rule 8)
    return counters


def guess_counters(line: bytes) -> dict[str, int]:
    """Return the counters that a STATS line of any form seems to have: names that a number follows."""
    counters: dict[str, int] = {}
    for name, text in _NAMED.findall(line.replace(b'"', b"")):
        words = name.strip().lower().replace(b" ", b"_")
        known = next((meant for meant, pattern in _MEANT.items() if pattern.fullmatch(words)), None)
        if known:
            counters.setdefault(known, _seconds(text))
    return counters


def _seconds(text: bytes) -> int:
    days, _, clock = text.rpartition(b", ")
    parts = [int(part) for part in clock.split(b":")]
    seconds = 0
    for part in parts:
        seconds = seconds * 60 + part
    return seconds + 86400 * int(days.split(b" ")[0] or 0)
