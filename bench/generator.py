"""A closed-loop load generator in one process without any framework: many connections, a fixed pipeline depth.

Speaks KV/1.0 and RESP, so that the same load meets kvss and redis-server. Run as a process of its own; prints JSON.
"""

import argparse
import itertools
import json
import random
import select
import socket
import time
from dataclasses import dataclass

PACKETS = 512
"""Packets made beforehand, so that making them costs nothing while measuring."""


@dataclass(frozen=True, slots=True)
class Load:
    """Connections, requests per packet, percent of GETs, bytes of a value, number of keys."""

    connections: int
    depth: int
    get_percent: int
    value_bytes: int
    keys: int


class Client:
    """One connection: the line feeds of replies still to come, and when the packet was sent."""

    __slots__ = ("lines_left", "sent", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.lines_left = 0
        self.sent = 0.0

    def send(self, packet: tuple[bytes, int], now: float) -> None:
        """Send the next packet."""
        data, self.lines_left = packet
        self.sent = now
        self.sock.sendall(data)


def request(protocol: str, get: bool, key: bytes, value: bytes) -> tuple[bytes, int]:
    """Return one request and how many line feeds its reply has."""
    if protocol == "kv":
        return (b"KV/1.0 GET %b\n" % key if get else b"KV/1.0 PUT %b %b\n" % (key, value)), 1
    if get:
        return b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(key), key), 2
    return b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(key), key, len(value), value), 1


def packets(protocol: str, load: Load, seed: int = 1) -> list[tuple[bytes, int]]:
    """Return packets of `depth` requests, each with the line feeds of its replies."""
    pick = random.Random(seed)
    value = b"x" * load.value_bytes
    made = []
    for _ in range(PACKETS):
        parts = [
            request(protocol, pick.random() * 100 < load.get_percent, b"key:%08d" % pick.randrange(load.keys), value)
            for _ in range(load.depth)
        ]
        made.append((b"".join(part for part, _ in parts), sum(lines for _, lines in parts)))
    return made


def preload(protocol: str, address: tuple[str, int], load: Load) -> None:
    """Store every key once."""
    with socket.create_connection(address, 10) as sock:
        for start in range(0, load.keys, 64):
            keys = range(start, min(start + 64, load.keys))
            sock.sendall(
                b"".join(request(protocol, False, b"key:%08d" % key, b"x" * load.value_bytes)[0] for key in keys)
            )
            left = len(keys)
            while left:
                data = sock.recv(65536)
                if not data:
                    raise ConnectionError("the server closed")
                left -= data.count(b"\n")


def drive(protocol: str, address: tuple[str, int], load: Load, seconds: float) -> dict[str, float]:
    """Run the load; return requests per second and percentiles of a packet's time in microseconds."""
    made = itertools.cycle(packets(protocol, load))
    # The selectors module would cost as much for each reply as all the rest here.
    poll = select.epoll()
    clients: dict[int, Client] = {}
    for _ in range(load.connections):
        sock = socket.create_connection(address, 10)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        clients[sock.fileno()] = Client(sock)
        poll.register(sock, select.EPOLLIN)
    took: list[float] = []
    refused = 0
    now = time.perf_counter
    began = now()
    for client, packet in zip(clients.values(), made, strict=False):
        client.send(packet, now())
    end = began + seconds
    while now() < end:
        for fd, _ in poll.poll(1.0):
            client = clients[fd]
            data = client.sock.recv(65536)
            if not data:
                raise ConnectionError("the server closed")
            client.lines_left -= data.count(b"\n")
            if b"500 SERVER_ERROR" in data:
                refused += data.count(b"500 SERVER_ERROR")
            if client.lines_left <= 0:
                sent = now()
                took.append(sent - client.sent)
                client.send(next(made), sent)
    elapsed = time.perf_counter() - began
    for client in clients.values():
        client.sock.close()
    poll.close()
    took.sort()
    return {
        "requests": len(took) * load.depth,
        "refused": refused,
        "rps": len(took) * load.depth / elapsed,
        **{f"p{p}_us": took[int((len(took) - 1) * p / 100)] * 1e6 for p in (50, 99)},
    }


def main() -> None:
    """Run as `python -m bench.generator PROTOCOL HOST PORT ...`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("protocol", choices=["kv", "resp"])
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--depth", type=int, default=1)
    parser.add_argument("--get", type=int, default=80, help="percent")
    parser.add_argument("--value", type=int, default=64, help="bytes")
    parser.add_argument("--keys", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=1.0)
    args = parser.parse_args()
    load = Load(args.connections, args.depth, args.get, args.value, args.keys)
    preload(args.protocol, (args.host, args.port), load)
    print(json.dumps(drive(args.protocol, (args.host, args.port), load, args.seconds)))


if __name__ == "__main__":
    main()
