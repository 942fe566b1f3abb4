"""What TLS costs: the server's CPU per request beside a plain server, at several pipeline depths.

Run as `python -m bench.safety.tls`; half a minute. 50 connections, values of 64 bytes, four GETs to a PUT. Both are
driven in turn by the same client. CPU time is user and system time together; the least of many short runs is what a
busy machine changes least.

The second line of a depth says what OpenSSL alone costs: one packet is decrypted, and its replies are encrypted, again
and again without a server. No server on this OpenSSL can be cheaper, unless the kernel encrypts.
"""

import argparse
import contextlib
import os
import socket
import ssl
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from bench.processes.generator_process import GENERATOR_PROCESSORS, SERVER_PROCESSORS
from bench.processes.in_turn import in_turn
from kvss_gevent.cli import main as run_command
from kvss_gevent.measure.launch import Launched, kvss, launched
from kvss_gevent.measure.process_usage import cpu_ns

CONNECTIONS = 50
VALUE = b"x" * 64
REQUESTS = (b"KV/1.0 PUT k %b\n" % VALUE, *[b"KV/1.0 GET k\n"] * 4)


def main() -> None:
    """Print one line for each depth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=25, help="pairs of runs per depth")
    parser.add_argument("--seconds", type=float, default=0.2, help="per run")
    parser.add_argument("--depth", default="1,16", help="pipeline depths")
    args = parser.parse_args()
    if GENERATOR_PROCESSORS:
        os.sched_setaffinity(0, GENERATOR_PROCESSORS)
    with tempfile.TemporaryDirectory(prefix="kvss-tls-") as name, contextlib.ExitStack() as stack:
        with contextlib.redirect_stdout(sys.stderr):
            run_command(["tls", "make-dev", name])
        folder = Path(name)
        flags = ("--tls-cert", str(folder / "server.pem"), "--tls-key", str(folder / "server-key.pem"))
        plain = stack.enter_context(launched(kvss(), processors=SERVER_PROCESSORS))
        secure = stack.enter_context(launched(kvss(*flags), processors=SERVER_PROCESSORS))
        trust = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(folder / "server.pem", folder / "server-key.pem")
        for depth in [int(depth) for depth in args.depth.split(",")]:
            plain_us = compare(plain, secure, trust, depth, args.pairs, args.seconds)
            openssl_us = openssl_alone_us(context, trust, packet_of(depth, 0)) / depth
            print(
                f"           OpenSSL alone {openssl_us:.2f} us, ratio at least {1 + openssl_us / plain_us:.2f}",
                flush=True,
            )


def compare(  # noqa: PLR0913, PLR0917 - what a comparison is made of
    plain: Launched, secure: Launched, trust: ssl.SSLContext, depth: int, pairs: int, seconds: float
) -> float:
    """Print the costs at one depth; return the plain one, in microseconds for a request."""
    with Load(plain, None, depth) as without, Load(secure, trust, depth) as with_tls:
        costs = in_turn(pairs, partial(without.cost_us, seconds), partial(with_tls.cost_us, seconds))
    ratios = sorted(ours / theirs for theirs, ours in costs)
    plain_us, tls_us = (min(one) for one in zip(*costs, strict=True))
    print(
        f"depth {depth:3}: at least plain {plain_us:.2f} us CPU per request, TLS {tls_us:.2f} us, "
        f"ratio {tls_us / plain_us:.2f}; median of the ratios {statistics.median(ratios):.2f} "
        f"(half of {pairs} pairs from {ratios[pairs // 4]:.2f} to {ratios[3 * pairs // 4]:.2f})",
        flush=True,
    )
    return plain_us


def packet_of(depth: int, first: int) -> bytes:
    """Return so many requests, four GETs to a PUT, from one of the five on."""
    return b"".join(REQUESTS[(first + number) % len(REQUESTS)] for number in range(depth))


def openssl_alone_us(context: ssl.SSLContext, trust: ssl.SSLContext, packet: bytes) -> float:
    """Return the least time in which a packet is decrypted and its replies are encrypted, in microseconds."""
    replies = packet.replace(REQUESTS[0], b"200 OK\n").replace(REQUESTS[1], b"200 OK %b\n" % VALUE)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server: Any = context._wrap_bio(to_server, to_client, server_side=True)  # type: ignore[attr-defined]
    client = trust.wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
    for side in (client, server) * 2:
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    least_us = float("inf")
    for _ in range(5000):
        client.write(packet)
        data = to_server.read()
        began = time.perf_counter()
        to_server.write(data)
        server.read(len(data))
        server.write(replies)
        data = to_client.read()
        least_us = min(least_us, (time.perf_counter() - began) * 1e6)
        to_client.write(data)
        client.read(1 << 16)
    return least_us


class Load:
    """Connections to one server, which send their packets at the same time and then wait for all replies.

    A packet is encrypted before any is sent: the server then has as much to do at a time with TLS as without, and its
    event loop turns as seldom.
    """

    def __init__(self, server: Launched, trust: ssl.SSLContext | None, depth: int) -> None:
        self._pid = server.pid
        self._depth = depth
        self._packets = [packet_of(depth, first) for first in range(len(REQUESTS))]
        self._socks = [server.connect(10) for _ in range(CONNECTIONS)]
        self._sessions = [Session(sock, trust) for sock in self._socks] if trust else []

    def __enter__(self) -> "Load":
        return self

    def __exit__(self, *_: object) -> None:
        for sock in self._socks:
            sock.close()

    def cost_us(self, seconds: float) -> float:
        """Send packets and read replies for so long; return the server's CPU time for a request in microseconds."""
        began_ns, requests, turn = cpu_ns(self._pid), 0, 0
        ends_s = time.perf_counter() + seconds
        while time.perf_counter() < ends_s:
            turn += 1
            packet = self._packets[turn % len(self._packets)]
            packets = [session.encrypted(packet) for session in self._sessions] or [packet] * CONNECTIONS
            for sock, sent in zip(self._socks, packets, strict=True):
                sock.sendall(sent)
            for number, sock in enumerate(self._socks):
                lines = 0
                while lines < self._depth:
                    data = sock.recv(1 << 16)
                    lines += (self._sessions[number].decrypted(data) if self._sessions else data).count(b"\n")
            requests += self._depth * CONNECTIONS
        return (cpu_ns(self._pid) - began_ns) / requests / 1000


class Session:
    """The client's side of TLS on a socket, apart from sending and receiving."""

    def __init__(self, sock: socket.socket, trust: ssl.SSLContext) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = trust.wrap_bio(self._incoming, self._outgoing, server_hostname="127.0.0.1")
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                sock.sendall(self._outgoing.read())
                self._incoming.write(sock.recv(1 << 16))
            else:
                sock.sendall(self._outgoing.read())
                return

    def encrypted(self, data: bytes) -> bytes:
        """Return a record that holds the data."""
        self._tls.write(data)
        return self._outgoing.read()

    def decrypted(self, data: bytes) -> bytes:
        """Return what whole records held."""
        self._incoming.write(data)
        parts = []
        with contextlib.suppress(ssl.SSLWantReadError):
            while part := self._tls.read(1 << 16):
                parts.append(part)
        return b"".join(parts)


if __name__ == "__main__":
    main()
