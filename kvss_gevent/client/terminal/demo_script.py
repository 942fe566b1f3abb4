"""The demo's script, and one connection that plays it as it goes over the wire. Starting a server is cli/demo.py's."""

import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

from kvss_gevent.client.terminal.repl import printable
from kvss_gevent.protocol import wire

TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class DemoStep:
    """A heading, a sentence, and packets of requests; each packet is sent whole before its replies are read."""

    heading: str
    text: str
    packets: tuple[bytes, ...]


SCENES = (
    DemoStep(
        "Basic operations",
        "One line asks, one line answers. 201 is a new key, 200 a replaced value.",
        (
            b"KV/1.0 PUT name John\n",
            b"KV/1.0 GET name\n",
            b"KV/1.0 PUT name Jane\n",
            b"KV/1.0 GET name\n",
            b"KV/1.0 DEL name\n",
            b"KV/1.0 GET name\n",
            b"KV/1.0 STATS\n",
        ),
    ),
    DemoStep(
        "Values are bytes",
        "A value runs to the end of the line: spaces stay, and so does any UTF-8.",
        (
            b"KV/1.0 PUT motto  to be,  or not \n",
            b"KV/1.0 GET motto\n",
            "KV/1.0 PUT città Forlì\n".encode(),
            "KV/1.0 GET città\n".encode(),
        ),
    ),
    DemoStep(
        "Errors",
        "The version is looked at first (426), then the command (400). The connection stays open.",
        (
            b"KV/1.0 GET\n",
            b"KV/1.0 PUT keyonly\n",
            b"KV/1.0 INVALID command\n",
            b"KV/1.0 get name\n",
            b"KV/1.0 GET two words\n",
            b"WRONG/1.0 GET test\n",
            b"GET test\n",
            b"\n",
            b"KV/1.0 PUT bad \xff\n",
            b"KV/1.0 GET " + b"k" * 512 + b"\n",
        ),
    ),
    DemoStep(
        "Pipelining",
        "TCP is a stream: many requests may travel in one packet, and one request in many.",
        (
            b"KV/1.0 PUT a 1\nKV/1.0 PUT b 2\nKV/1.0 GET a\nKV/1.0 GET b\nKV/1.0 DEL a\n",
            b"KV/1.0 G",
            b"ET b\nKV/1.0 QU",
            b"IT\nKV/1.0 GET never-answered\n",
        ),
    ),
)


def play(host: str, port: int, packet_pause_s: float = 0.05) -> Iterator[str]:
    """Play all scenes on one connection and yield what is to be shown.

    Raises OSError where the server does not answer within TIMEOUT_S.
    """
    with socket.create_connection((host, port), TIMEOUT_S) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for scene in SCENES:
            yield f"\n{scene.heading}\n{scene.text}\n"
            for packet in scene.packets:
                sock.sendall(packet)
                yield f"  -> {shown(packet)}"
                for reply in _replies(sock, packet.count(b"\n")):
                    yield f"  <- {shown(reply)}"
                if not packet.endswith(b"\n"):
                    time.sleep(packet_pause_s)  # so that the next packet is one of its own
        yield "  (the server has closed the connection)" if sock.recv(1) == b"" else "  (the server goes on)"


def shown(data: bytes) -> str:
    """Show bytes as text where they are text, with line ends and all else escaped."""
    text = printable(data)
    return text if len(text) <= 140 else f"{text[:60]}... ({len(data)} bytes)"


def _replies(sock: socket.socket, number: int) -> list[bytes]:
    """Read one reply line for each request, or fewer where the server closes."""
    data = b""
    while data.count(b"\n") < number and (part := sock.recv(65536)):
        data += part
        if data.endswith(wire.BYE + b"\n"):
            break
    return data.splitlines(keepends=True)
