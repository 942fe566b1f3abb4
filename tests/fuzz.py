"""Throws odd bytes at what takes bytes from strangers: session, client, TLS and the checker; `make fuzz`.

An execution is one conversation, made from a seed. The session must answer as the slow reference server does, wherever
the bytes are cut. The client must come to the same end wherever they are cut, with no error but its own. TLS and the
checker must raise nothing but their own errors. The first execution that does not stops the run and prints its seed:
`python tests/fuzz.py --target session --seed N --executions 1` has it again.
"""

import argparse
import random
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import trustme
from reference_server import State, answer, is_of_another_protocol

from kvss_gevent.client.commands import BYTES, Commands
from kvss_gevent.client.protocol import ClientProtocol
from kvss_gevent.conformance.dialect import habits_of, learn
from kvss_gevent.conformance.stats_forms import FORMS, guess_counters, read_counters
from kvss_gevent.core.conversation import Limits
from kvss_gevent.core.service import Service
from kvss_gevent.protocol.errors import KVProtocolError
from kvss_gevent.protocol.stats_reply import parse_stats
from kvss_gevent.server.security.tls import server_context, tls
from kvss_gevent.server.transport import PlainClientError, TlsError
from kvss_gevent.stores.memory import MemoryStore

LINE_BYTES = 80
PIECES = (
    b"KV/1.0 GET ",
    b"KV/1.0 PUT ",
    b"KV/1.0 DEL ",
    b"KV/1.0 QUIT",
    b"KV/1.0 ",
    b"KV/1.0",
    b"kv/1.0",
    b"KV/1.1",
    b"GET",
    b"PUT",
    b"a",
    b"b",
    b"key",
    b" ",
    b"  ",
    b"\t",
    b"\r",
    b"\r\n",
    b"\0",
    b"\xff",
    b"\xc3\xa9",
    b"\xc3",
    b"\xe2\x82\xac",
    b"/",
    b"http://x/",
    b"Host:",
    b"HTTP/1.1",
    b"POST",
    b"x" * 40,
    b"y" * 90,
    b"200 OK",
    b"1",
    b"\x16\x03\x01",
    b"1 ",
)
REPLIES = (
    b"200 OK\n",
    b"200 OK ",
    b"201 CREATED\n",
    b"204 NO_CONTENT\n",
    b"404 NOT_FOUND\n",
    b"400 BAD_REQUEST\n",
    b"200 OK bye\n",
    b"426 UPGRADE_REQUIRED\n",
    b"500 SERVER_ERROR\n",
    b"value",
    b"\n",
    b"\r\n",
    b"\0",
    b" ",
    b"200",
    b"hello\n",
    b"uptime",
    b"200 OK uptime: 0:00:01; connections: 1; commands_processed: 2; get_requests: 1; put_requests: 0; "
    b"del_requests: 0; keys_stored: 0\n",
    b"200 OK keys=0 uptime=1s served=2\n",
    b"99999999999999999999",
    b": ",
    b"=",
    b"; ",
    b"\xff",
)

COMMANDS = Commands(BYTES)
ASKED = (COMMANDS.get(b"a"), COMMANDS.put(b"a", b"1"), COMMANDS.delete(b"a"), COMMANDS.ttl(b"a"), COMMANDS.stats())


def stream(chance: random.Random, pieces: tuple[bytes, ...], most: int) -> bytes:
    """Return bytes of some pieces, a few of their bits turned."""
    data = bytearray(b"".join(chance.choices(pieces, k=chance.randrange(1, most))))
    while chance.random() < 0.1:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(data)


def cut(chance: random.Random, data: bytes) -> list[bytes]:
    """Return the same bytes in pieces, none of them empty."""
    edges = sorted({0, len(data), *(chance.randrange(len(data) + 1) for _ in range(chance.randrange(4)))})
    return [data[one:other] for one, other in pairwise(edges)]


def expected(data: bytes) -> bytes:
    """Return what the reference server answers to all of it."""
    if data[:1] == b"\x16":
        return b"426 UPGRADE_REQUIRED\n"
    state, replies = State(), b""
    for line in data.split(b"\n")[:-1]:
        if len(line.removesuffix(b"\r")) > LINE_BYTES:
            reply, ends = b"400 BAD_REQUEST", is_of_another_protocol(line[:600].split(b" "))
        else:
            reply, ends = answer(state, line)
        replies += reply + b"\n"
        if ends:
            break
    return replies


def session(chance: random.Random) -> None:
    """Compare a session's replies with the reference server's."""
    lines = [stream(chance, PIECES, 7) + b"\n" for _ in range(chance.randrange(1, 6))]
    data = b"".join(lines) + (stream(chance, PIECES, 3) if chance.random() < 0.2 else b"")
    limits = Limits(line_bytes=LINE_BYTES, reply_bytes=200, slice_lines=3)
    talk = Service(MemoryStore(), limits, strict=True).open()
    replies = b""
    for packet in cut(chance, data):
        replies += talk.receive(packet)
        while talk.more:
            replies += talk.proceed()
        if talk.closed:
            break
    assert replies == expected(data), (data, replies, expected(data))


def client(chance: random.Random) -> None:
    """Compare what a client makes of the same replies in one piece and in many."""
    asked = chance.choices(ASKED, k=chance.randrange(1, 5))
    data = stream(chance, REPLIES, 8)

    def outcome(packets: list[bytes]) -> tuple[list[str], str]:
        protocol: ClientProtocol[int] = ClientProtocol("127.0.0.1", 5050, 1000)
        for number, command in enumerate(asked):
            protocol.request(command, number)
        done: list[tuple[int, object]] = []
        error = ""
        try:
            for packet in packets:
                if not protocol.owed:
                    break  # in one piece or in many: whoever has all replies looks no further
                protocol.receive(packet, 0, done)
        except KVProtocolError as fault:
            error = type(fault).__name__
        assert [number for number, _ in done] == list(range(len(done)))
        return [repr(one) for one in done], error if len(done) < len(asked) else ""

    whole, pieces = outcome([data]), outcome(cut(chance, data))
    assert whole == pieces, (data, whole, pieces)


class Tls:
    """Handshakes and records with turned bits, at a server's TLS transport."""

    def __init__(self) -> None:
        authority = trustme.CA()
        with tempfile.TemporaryDirectory() as folder:
            both = Path(folder) / "both.pem"
            authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(both))
            self.secure = tls(server_context(both, both))
        self.client = ssl.create_default_context()
        authority.configure_trust(self.client)

    def __call__(self, chance: random.Random) -> None:
        """Shake hands, send something, and spoil a packet of it, or none: then all records must arrive whole."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.setblocking(False)
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            peer = self.client.wrap_bio(incoming, outgoing, server_hostname="localhost")
            transport = self.secure(ours)
            spoilt = chance.randrange(6)
            sent = received = b""
            for turn in range(5):
                with suppress(ssl.SSLError):
                    peer.do_handshake()
                    peer.write(b"KV/1.0 GET a\n")
                    sent += b"KV/1.0 GET a\n"
                data = bytearray(outgoing.read() or b"\x17")
                if turn == spoilt:
                    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
                for packet in cut(chance, bytes(data)):
                    theirs.send(packet)
                    try:
                        received += transport.recv(65536)
                    except BlockingIOError:
                        pass
                    except (TlsError, PlainClientError):
                        assert spoilt < 5
                        return
                with suppress(BlockingIOError):
                    incoming.write(theirs.recv(65536))
            assert spoilt < 5 or (received == sent and transport.partial() is None)
            transport.finish()


def checker(chance: random.Random) -> None:
    """Have the grader read what a strange server says."""
    greeting, reply = (stream(chance, REPLIES, 6) for _ in range(2))
    dialect = learn(greeting if chance.random() < 0.5 else b"", reply)
    assert dialect.greeting_lines >= 0
    for line in (*FORMS.values(), b"200 OK", b"404 NOT_FOUND", b"200 OK value"):
        habits_of(line, reply, {b"200 OK": b"201 CREATED"} if chance.random() < 0.5 else {})
    for form in FORMS:
        read_counters(reply.rstrip(b"\r\n"), form)
    assert all(number >= 0 for number in guess_counters(reply).values())
    with suppress(ValueError):
        parse_stats(reply)


TARGETS: dict[str, tuple[Callable[[], Callable[[random.Random], None]], int]] = {
    "session": (lambda: session, 1),
    "client": (lambda: client, 1),
    "checker": (lambda: checker, 1),
    "tls": (Tls, 100),
}
"""What makes each, and how many executions of the others stand for one of it: a handshake takes a millisecond."""


def run(name: str, seed: int, executions: int) -> None:
    """Run so many executions from a seed on, and print how many a second. Raises what one of them raises."""
    make, dear = TARGETS[name]
    execute, count = make(), max(executions // dear, 1)
    started_s = time.monotonic()
    for number in range(seed, seed + count):
        try:
            execute(random.Random(number))
        except BaseException:
            print(f"fuzz: {name} fails: --target {name} --seed {number} --executions 1", file=sys.stderr)
            raise
    took_s = time.monotonic() - started_s
    print(f"{name:8} {count:>10,} executions, seeds {seed} to {seed + count - 1}, {count / took_s:,.0f} a second")


def main() -> None:
    """Run the targets one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", choices=TARGETS, help="one of them; all without it")
    parser.add_argument("--seed", type=int, default=0, help="the first; each execution has the next")
    parser.add_argument("--executions", type=int, default=200_000, help="of each target; of tls one in a hundred")
    args = parser.parse_args()
    for name in [args.target] if args.target else TARGETS:
        run(name, args.seed, args.executions)


if __name__ == "__main__":
    main()
