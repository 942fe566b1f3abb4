"""The bytes that a TCP connection has carried. The kernel counts them, so the path of a request pays nothing."""

import socket
import struct
from typing import Final

_BYTES: Final = struct.Struct("=QQ")
_AT: Final = 120
"""Offset of tcpi_bytes_acked and tcpi_bytes_received in struct tcp_info (Linux 4.1)."""
_PACKETS: Final = struct.Struct("=I")
_PACKETS_AT: Final = 152
"""Offset of tcpi_data_segs_in (Linux 4.6), at depth 1 the number of requests."""
_LENGTH: Final = 160
_TCP_INFO: Final = getattr(socket, "TCP_INFO", 0)

Carried = tuple[int, int, int]
"""Bytes from the client, bytes that it has acknowledged, and packets with data from it."""
NOTHING: Final[Carried] = (0, 0, 0)


def carried(sock: socket.socket) -> Carried:
    """Return what a connection has carried; NOTHING for a Unix socket or if the system does not tell."""
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _LENGTH)
        bytes_out, bytes_in = _BYTES.unpack_from(info, _AT)
        (packets,) = _PACKETS.unpack_from(info, _PACKETS_AT)
    except (OSError, struct.error, AttributeError):
        return NOTHING
    return bytes_in, bytes_out, packets
