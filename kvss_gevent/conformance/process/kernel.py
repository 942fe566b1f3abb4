"""Asks Linux about sockets and processes, in /proc and with sock_diag(7). On other systems nothing is known."""

import os
import re
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

_ROW: Final = re.compile(rb"^ *\d+: \w+:(\w{4}) \S+ (\w\w) \S+ \S+ \S+ +\d+ +\d+ (\d+)", re.MULTILINE)
_LISTEN: Final = b"0A"

MOST_PATIENCE: Final = 8.0
"""The highest factor by which times may be longer on a busy machine."""

_SOCK_DIAG: Final = 4
_BY_FAMILY: Final = 20
_ANY: Final = 0xFFFFFFFF
_QUEUE_AT: Final = 16 + 4 + 48 + 4
"""Offset of idiag_rqueue, wqueue, uid and inode: after the netlink header, four bytes, the socket's id and a timer."""


def listens(port: int) -> bool:
    """Tell whether a process listens on a TCP port of this machine, without a connection to it."""
    return any(state == _LISTEN and local == port for local, state, _ in _sockets())


def unread_bytes(client: tuple[Any, ...], server: tuple[Any, ...]) -> int | None:
    """Return how many bytes from a local client its server has not read; None if unknown. Both are addresses."""
    found = _server_socket(client, server)
    return found[0] if found else None


def has_closed(client: tuple[Any, ...], server: tuple[Any, ...]) -> bool:
    """Tell whether a local server has closed its socket, and not only its sending side."""
    found = _server_socket(client, server)
    return found is not None and found[1] == 0


def _server_socket(client: tuple[Any, ...], server: tuple[Any, ...]) -> tuple[int, int] | None:
    """Return the unread bytes and the inode of a server's socket; the inode is 0 if no process has it any more.

    None if unknown. sock_diag(7) asks for this one socket, which takes 50 us however many sockets there are.
    """
    family = socket.AF_INET6 if len(server) == 4 else socket.AF_INET
    hosts = [socket.inet_pton(family, host[0]).ljust(16, b"\0") for host in (server, client)]
    ports = struct.pack("!HH", server[1], client[1])
    wanted = struct.pack("=BBBxI", family, socket.IPPROTO_TCP, 0, _ANY) + ports + b"".join(hosts)
    wanted += struct.pack("=III", 0, _ANY, _ANY)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _SOCK_DIAG) as netlink:
            netlink.settimeout(1.0)
            netlink.send(struct.pack("=IHHII", 16 + len(wanted), _BY_FAMILY, 1, 1, 0) + wanted)
            answer = netlink.recv(4096)
    except (OSError, AttributeError):
        return None
    if struct.unpack_from("=IH", answer)[1] != _BY_FAMILY:
        return None
    unread, _, _, inode = struct.unpack_from("=IIII", answer, _QUEUE_AT)
    return unread, inode


def listening_ports(pids: list[int]) -> list[int]:
    """Return the TCP ports on which any of these processes listens."""
    ports = {inode: local for local, state, inode in _sockets() if state == _LISTEN}
    found = set()
    for pid in pids:
        try:
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                name = str(descriptor.readlink())
                if name.startswith("socket:["):
                    found.add(ports.get(int(name[8:-1])))
        except OSError:
            continue
    return sorted(port for port in found if port is not None)


def busyness() -> float:
    """Return how many processes want each core, from 1 to MOST_PATIENCE: a correct server may be so much slower.

    This is the higher of the mean of the last minute and the present number: the mean misses a load that has just
    begun, and the present number changes quickly.
    """
    try:
        mean, _, _, now, _ = Path("/proc/loadavg").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return 1.0
    wanted = max(float(mean), int(now.partition("/")[0]) - 1)
    return min(max(1.0, wanted / (os.cpu_count() or 1)), MOST_PATIENCE)


def _sockets() -> Iterator[tuple[int, bytes, int]]:
    """Yield local port, state and inode of each TCP socket."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            text = Path(table).read_bytes()
        except OSError:
            continue
        for local, state, inode in _ROW.findall(text):
            yield int(local, 16), state, int(inode)
