"""What the kernel counts, so that the path of a request pays nothing: bytes of a connection, memory and run delay."""

import os
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


def resident_bytes() -> int:
    """Return the resident memory of this process; 0 if the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - half the time of a Path
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


class RunDelay:
    """How long the first thread of this process, which runs the loop, was ready to run and had no core."""

    def __init__(self) -> None:
        self._descriptor = -1
        try:
            # It stays open: opening it for each reading would take three times as long as all the rest.
            self._descriptor = os.open("/proc/self/schedstat", os.O_RDONLY)
        except OSError:
            pass  # not Linux

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def ns(self) -> int:
        """Return nanoseconds since the process began; 0 on a system that does not tell."""
        try:
            return int(os.pread(self._descriptor, 100, 0).split()[1])
        except (AttributeError, OSError, ValueError, IndexError):  # Windows has no pread
            return 0
