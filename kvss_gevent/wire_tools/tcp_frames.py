"""Makes TCP segments for a byte stream that a proxy recorded. Wireshark follows them like real segments.

The bytes, their order, their direction and the ends of the connection are real. The handshake, the acknowledgements
and the borders of segments are invented: only a real capture shows what the kernel does.
"""

import socket
import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Final

MAX_DATA_BYTES: Final = 60_000
"""Data in one segment, at most: the length field of IPv4 has 16 bits."""
WINDOW: Final = 65535

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16


class Way(IntEnum):
    """The direction of a segment. The number is also that of the segment's interface in the file."""

    TO_SERVER = 0
    TO_CLIENT = 1


class Segments:
    """Makes the frames of one connection, in both directions; their link type is LINKTYPE_RAW.

    client and server are (address, port), both IPv4 or both IPv6. Raises OSError for other addresses.
    """

    __slots__ = ("_family", "_pairs", "_ports", "_seqs")

    def __init__(self, client: tuple[str, int], server: tuple[str, int]) -> None:
        self._family = socket.AF_INET6 if ":" in client[0] else socket.AF_INET
        source, target = (socket.inet_pton(self._family, end[0].partition("%")[0]) for end in (client, server))
        self._pairs = (source + target, target + source)
        self._ports = (struct.pack(">HH", client[1], server[1]), struct.pack(">HH", server[1], client[1]))
        self._seqs = [0, 0]

    def opened(self) -> tuple[tuple[Way, bytes], ...]:
        """Return the three segments of a handshake."""
        return (
            (Way.TO_SERVER, self._segment(Way.TO_SERVER, SYN)),
            (Way.TO_CLIENT, self._segment(Way.TO_CLIENT, SYN | ACK)),
            (Way.TO_SERVER, self._segment(Way.TO_SERVER, ACK)),
        )

    def refused(self) -> tuple[tuple[Way, bytes], ...]:
        """Return the two segments of a connection that the server refused."""
        return (
            (Way.TO_SERVER, self._segment(Way.TO_SERVER, SYN)),
            (Way.TO_CLIENT, self._segment(Way.TO_CLIENT, RST | ACK)),
        )

    def data(self, way: Way, data: bytes) -> Iterator[bytes]:
        """Yield the segments that carry data."""
        for first in range(0, len(data), MAX_DATA_BYTES):
            yield self._segment(way, PSH | ACK, data[first : first + MAX_DATA_BYTES])

    def ended(self, way: Way) -> bytes:
        """Return the segment with which one side says that it sends no more."""
        return self._segment(way, FIN | ACK)

    def reset(self, way: Way) -> bytes:
        """Return the segment that resets the connection."""
        return self._segment(way, RST | ACK)

    def _segment(self, way: Way, flags: int, data: bytes = b"") -> bytes:
        seq, ack = self._seqs[way], self._seqs[1 - way] if flags & ACK else 0
        self._seqs[way] = (seq + len(data) + (1 if flags & (SYN | FIN) else 0)) & 0xFFFFFFFF
        head = self._ports[way] + struct.pack(">IIBBH", seq, ack, 5 << 4, flags, WINDOW)
        size = len(head) + 4 + len(data)
        pseudo = self._pairs[way] + struct.pack(">II", size, socket.IPPROTO_TCP)
        segment = head + _checksum(pseudo + head + data) + b"\0\0" + data
        if self._family == socket.AF_INET6:
            return struct.pack(">IHBB", 6 << 28, size, socket.IPPROTO_TCP, 64) + self._pairs[way] + segment
        start = struct.pack(">BBHIBB", 0x45, 0, 20 + size, 0x4000, 64, socket.IPPROTO_TCP)
        return start + _checksum(start + self._pairs[way]) + self._pairs[way] + segment


def _checksum(data: bytes) -> bytes:
    """Return the internet checksum: the sum of all 16-bit words modulo 65535, inverted (RFC 1071)."""
    number = int.from_bytes(data if len(data) % 2 == 0 else data + b"\0", "big")
    return struct.pack(">H", 0xFFFF - (number % 0xFFFF or 0xFFFF))
