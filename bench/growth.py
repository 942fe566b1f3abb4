"""Millions of keys stored one after the other: the longest wait of another client, and the memory of a key.

Run as `python -m bench.growth [KEYS]`; some minutes. One client stores keys in pipelines of 100. Another, a process of
its own, asks for one key every millisecond. Its longest waits are those in which Python makes the server's dict larger,
in one go; redis-server moves its table step by step. How long it waits on this machine while nobody stores anything
stands beside it. Memory is what the server's process has grown by. The last lines are of the store without a server.
"""

import contextlib
import multiprocessing
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection

from kvss_gevent.measure.launch import Launched, free_port, kvss, launched, redis
from kvss_gevent.measure.load import ClosedLoad, key_of, request
from kvss_gevent.measure.process_usage import resident_bytes
from kvss_gevent.protocol.wire import PUT
from kvss_gevent.stores.memory import MemoryStore

KEYS = 2_000_000
LARGE_KEYS = 500_000
"""With values of 1 KiB."""
BATCH = 100
ASK_INTERVAL_S = 0.001
QUIET_S = 5.0


SERVERS = {"kvss": ("kv", b"201 CREATED\n"), "redis-server": ("resp", b"+OK\r\n")}
"""From a server to the protocol that it speaks, and its reply to a put of a new key."""


def ask(port: int, asked: bytes, told: Connection) -> None:
    """Ask again and again until told to stop; tell every wait, in milliseconds."""
    waits = []
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while not told.poll():
            began_s = time.monotonic()
            sock.sendall(asked)
            sock.recv(4096)
            waits.append((time.monotonic() - began_s) * 1000)
            time.sleep(ASK_INTERVAL_S)
    told.send(sorted(waits))


@contextlib.contextmanager
def waits_of_another(port: int, asked: bytes) -> Iterator[list[float]]:
    """Have another client ask while the block runs; the list then has its waits, the longest last."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.Process(target=ask, args=(port, asked, there), daemon=True)
    process.start()
    waits: list[float] = []
    yield waits
    here.send(None)
    waits += here.recv()
    process.join()


def fill(port: int, load: ClosedLoad, stored: bytes) -> None:
    """Store the keys of a load; stored is the reply to each."""
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        for begin in range(0, load.keys, BATCH):
            numbers = range(begin, begin + BATCH)
            sock.sendall(b"".join(request(load, key_of(number), get=False)[0] for number in numbers))
            left_bytes = len(stored) * BATCH
            while left_bytes:
                left_bytes -= len(sock.recv(left_bytes))


def measure(name: str, server: Launched, keys: int, value_bytes: int) -> None:
    """Print a line of one server."""
    protocol, stored = SERVERS[name]
    load = ClosedLoad(keys=keys, value_bytes=value_bytes, protocol=protocol)
    get_one = request(load, b"one", get=True)[0]
    with socket.create_connection(("127.0.0.1", server.port), 10) as sock:
        sock.sendall(request(load, b"one", get=False)[0])
        sock.recv(4096)
    before_bytes = resident_bytes(server.pid)
    with waits_of_another(server.port, get_one) as quiet:
        time.sleep(QUIET_S)
    with waits_of_another(server.port, get_one) as waits:
        fill(server.port, load, stored)
    bytes_a_key = (resident_bytes(server.pid) - before_bytes) / keys
    print(
        f"{name:12} {keys:9,} {value_bytes:6} {bytes_a_key:10.0f} {waits[len(waits) // 2]:11.2f} "
        f"{waits[len(waits) * 999 // 1000]:11.2f} {waits[-1]:11.2f} {quiet[-1]:11.2f}",
        flush=True,
    )


def longest_puts(keys: int) -> None:
    """Print the longest PUTs of the store alone, in processor time, which other programs disturb less."""
    store = MemoryStore()
    took_ms = []
    for number in range(keys):
        began_ns = time.thread_time_ns()
        store.run(PUT, b"key:%08d" % number, b"v\n")
        took_ms.append(((time.thread_time_ns() - began_ns) / 1e6, number))
    print("the longest PUTs of the store alone, in processor time:")
    for longest_ms, number in sorted(sorted(took_ms)[-4:], key=lambda one: one[1]):
        print(f"  {longest_ms:6.1f} ms with {number:9,} keys")


def main() -> None:
    """Print the table."""
    keys = int(sys.argv[1]) if len(sys.argv) > 1 else KEYS
    names = list(SERVERS) if shutil.which("redis-server") else ["kvss"]
    print("                             value      bytes      another client's waits in ms, and the longest")
    print("server            keys      bytes      a key      median      99.9 %     longest  of a quiet one")
    for keys_now, value_bytes in ((keys, 64), (min(keys, LARGE_KEYS), 1024)):
        for name in names:
            port = free_port()
            command = kvss(port=port) if name == "kvss" else redis(port)
            with launched(command, port=port) as server:
                measure(name, server, keys_now, value_bytes)
    longest_puts(keys)


if __name__ == "__main__":
    main()
