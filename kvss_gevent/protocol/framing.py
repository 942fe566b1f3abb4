"""Makes request lines of packets (rules 1 to 3): joined where they were cut, without carriage returns, and checked."""

from io import BytesIO
from typing import Final

from kvss_gevent.protocol.foreign_protocols import JUDGED_BYTES, is_foreign
from kvss_gevent.protocol.wire import VERSION

CR: Final = 13
LF: Final = 10
"""Numbers, not bytes: `CR in data` is then one memchr; for bytes Python first tries to make a number of them."""

UNUSABLE: Final = VERSION + b"\n"
"""Takes the place of a line that is too long or not UTF-8. It gets 400, as such a line must (rules 2 and 3)."""
FOREIGN: Final = VERSION + b" \n"
"""Takes the place of such a line of another protocol. It gets 400 and ends the connection (rule 5b)."""

TLS: Final = b"\x16\n"
"""Takes the place of the first bytes of a client that speaks TLS."""


def complete_lines(data: bytes, partial: bytearray | None, line_bytes: int) -> tuple[list[bytes], bytearray | None]:
    """Return the lines that a packet completes, each fit to be run, and the line whose end has not arrived.

    partial: the line that an earlier packet began; it stays the same object until its end arrives. If the packet is
    plain, that is short, ASCII and without carriage return, only a line that began in an earlier one can be unfit.
    """
    lines = [*BytesIO(data)]
    plain = data.isascii() and CR not in data and len(data) <= line_bytes
    # One byte over the limit is kept: it may be a carriage return, which does not count. A longer line is too long
    # whatever follows. So the rest is not kept (rule 2), but always the first bytes, which may show another protocol
    # (rule 5b).
    room = max(line_bytes + 2, JUDGED_BYTES)
    joined = 0
    if partial is not None and lines:
        rest = lines[0][: room - len(partial)]
        if lines[0][-1] != LF:
            partial += rest
            return [], partial
        end = b"" if rest.endswith(b"\n") else b"\n"  # the line feed was cut off with the bytes over the limit
        lines[0] = b"".join((partial, rest, end))
        partial = None
        joined = 1
    if lines and lines[-1][-1] != LF:
        partial = bytearray(lines.pop()[:room])
    unchecked = joined if plain else len(lines)
    lines[:unchecked] = (clean_line(line, line_bytes) for line in lines[:unchecked])
    return lines, partial


def clean_line(line: bytes, line_bytes: int) -> bytes:
    """Drop a carriage return from the end of a line; replace a line that is too long or not UTF-8."""
    if line[-2:] == b"\r\n":
        line = line[:-2] + b"\n"
    if len(line) <= line_bytes + 1 and is_utf8(line):
        return line
    return FOREIGN if is_foreign(line[:JUDGED_BYTES]) else UNUSABLE


def is_utf8(line: bytes) -> bool:
    """Tell whether a line is UTF-8 (rule 3)."""
    if line.isascii():
        return True
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True
