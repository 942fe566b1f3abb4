"""Writes capture files for tests: TCP conversations as a network may deliver them, made from a seed."""

import random
import struct
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from kvss_gevent.protocol.wire import REPLY, Status

SYN, ACK, PSH, FIN, RST = 2, 16, 8, 1, 4
SERVER_PORT = 5050
LINKTYPE_RAW = 101


@dataclass
class Network:
    """Collects packets; time goes on by 10 us with each."""

    snap_bytes: int = 262144
    packets: list[bytes] = field(default_factory=list)
    time_us: int = 1_700_000_000_000_000

    def send(self, ports: tuple[int, int], seq: int, ack: int, flags: int, data: bytes = b"") -> None:
        """Add an IPv4 packet on loopback; checksums are left out, as an interface with offloading does."""
        tcp = struct.pack(">HHIIBBHHH", *ports, seq % 2**32, ack % 2**32, 5 << 4, flags, 65535, 0, 0)
        size = 20 + len(tcp) + len(data)
        ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, size, 1, 0x4000, 64, 6, 0, b"\x7f\0\0\1", b"\x7f\0\0\1")
        self.time_us += 10
        kept = (ip + tcp + data)[: self.snap_bytes]
        seconds, micros = divmod(self.time_us, 1_000_000)
        self.packets.append(struct.pack("<IIII", seconds, micros, len(kept), size) + kept)

    def write(self, path: Path) -> Path:
        """Write the file in the classic pcap format."""
        head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, LINKTYPE_RAW)
        path.write_bytes(head + b"".join(self.packets))
        return path


class Talk:
    """One connection: both sides' bytes, with sequence numbers that begin just before they wrap."""

    def __init__(self, network: Network, port: int, *, handshake: bool = True) -> None:
        self.network, self.port = network, port
        self.base = {port: 2**32 - 200, SERVER_PORT: 2**32 - 300}
        self.sent = {port: 0, SERVER_PORT: 0}
        self.heard = {port: 0, SERVER_PORT: 0}
        if handshake:
            self.segment(port, -1, b"", SYN)
            self.segment(SERVER_PORT, -1, b"", SYN | ACK)
            self.segment(port, 0, b"", ACK)

    def other(self, side: int) -> int:
        return SERVER_PORT if side == self.port else self.port

    def segment(self, side: int, offset: int, data: bytes, flags: int = PSH | ACK) -> None:
        """Send bytes that stand at that offset of this side's stream, now."""
        other = self.other(side)
        ack = self.base[other] + self.heard[side] if flags & ACK else 0
        self.network.send((side, other), self.base[side] + offset, ack, flags, data)

    def say(self, side: int, data: bytes) -> None:
        """Send bytes in order in one segment."""
        self.segment(side, self.sent[side], data)
        self.arrived(side, data)

    def arrived(self, side: int, data: bytes) -> None:
        self.sent[side] += len(data)
        self.heard[self.other(side)] = self.sent[side]

    def say_badly(self, side: int, data: bytes, rng: random.Random) -> None:
        """Send bytes cut anywhere, some segments late, twice, or twice in overlapping parts; all come in the end."""
        first = self.sent[side]
        cuts = sorted({0, len(data), *(rng.randrange(len(data) + 1) for _ in range(rng.randrange(1 + len(data) // 9)))})
        pieces = [(start, stop) for start, stop in pairwise(cuts) if start < stop]
        order = list(pieces)
        for _ in range(rng.randrange(4)):
            at = rng.randrange(len(order))
            kind = rng.randrange(3)
            if kind == 0 and len(order) > 1:
                order.insert(rng.randrange(len(order)), order.pop(at))
            elif kind == 1:
                order.insert(rng.randrange(at, len(order)) + 1, order[at])
            else:
                start, stop = order[at]
                order.insert(at + 1, (rng.randrange(start, stop), min(len(data), stop + rng.randrange(12))))
        for start, stop in order:
            if rng.randrange(5) == 0:
                self.network.time_us += 250_000  # late enough to be called a retransmission
            self.segment(side, first + start, data[start:stop])
        self.arrived(side, data)


def rounds(talk: Talk, rng: random.Random, count: int, depth: int, *, badly: bool = True) -> int:
    """Ask and answer count times, up to depth requests at once; return how many requests there were.

    The reply of `GET k<port>.<n>` is `200 OK v<port>.<n>`, so that a wrong pair is seen.
    """
    number = 0
    for _ in range(count):
        ask, answer = [], []
        for _ in range(rng.randrange(depth) + 1):
            end = rng.choice((b"\n", b"\n", b"\r\n"))
            ask.append(b"KV/1.0 GET k%d.%d%s" % (talk.port, number, end))
            answer.append(b"%s v%d.%d\n" % (REPLY[Status.OK], talk.port, number))
            number += 1
        for side, lines in ((talk.port, ask), (SERVER_PORT, answer)):
            data = b"".join(lines)
            if badly:
                talk.say_badly(side, data, rng)
            else:
                talk.say(side, data)
    return number
