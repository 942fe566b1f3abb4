"""What the gevent server keeps per connection, and the ways it is ended from outside; gevent_server drives it."""

import socket
import struct
import time
from collections.abc import Callable
from typing import Any

from kvss_gevent.core.conversation import Conversation
from kvss_gevent.protocol.errors import server_name
from kvss_gevent.server.transport import Transport

try:
    import fcntl
    import termios
except ModuleNotFoundError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

LINGER_0 = struct.pack("ii", 1, 0)


class Connection:
    """One client: its socket and session, and what the timeouts remember of it."""

    __slots__ = (
        "address",
        "ended",
        "line",
        "line_since_s",
        "opened_s",
        "quiet_since_s",
        "rests",
        "sending",
        "session",
        "sock",
        "transport",
        "wake",
    )

    def __init__(self, sock: socket.socket, transport: Transport, session: Conversation, address: Any) -> None:
        self.sock = sock
        self.transport = transport
        self.opened_s = time.monotonic()
        self.session = session
        self.address = address
        self.sending = False
        """Replies are waiting for the client: it is not read, so its line and its silence are not its fault."""
        self.ended = ""
        """Why the connection was ended from outside."""
        self.line: object | None = None
        self.line_since_s = 0.0
        self.quiet_since_s = 0.0
        self.wake: Callable[[], object] | None = None
        """Wakes the greenlet where it waits for the socket; None where it hibernates, having none."""
        self.rests = False
        """The greenlet is asked to end, the connection staying open, if there is nothing to read."""

    def __str__(self) -> str:
        return f"client {server_name(*self.address[:2])}" if self.address else "a client of the Unix socket"

    def untaken_bytes(self) -> int:
        """Return how much the kernel has to send to the client; 0 where it does not tell."""
        if fcntl is None:
            return 0
        try:
            (number,) = struct.unpack("i", fcntl.ioctl(self.sock, termios.TIOCOUTQ, bytes(4)))
        except OSError:
            return 0
        return int(number)

    def stop_receiving(self) -> None:
        """Have the session end as if the client had closed its sending side: what was received is still answered."""
        try:
            self.sock.shutdown(socket.SHUT_RD)
        except OSError:
            pass  # the client was faster

    def end(self, why: str, *, reset: bool = False) -> None:
        """End the connection from outside: the greenlet that owns it will read the end of the stream and close it."""
        self.ended = why
        if reset:
            self.reset_on_close()
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the client was faster

    def reset_on_close(self) -> None:
        """Have the kernel throw away what the client did not take, instead of keeping it for minutes."""
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)
        except OSError:
            pass


def close(sock: socket.socket) -> None:
    """Close a socket so that the last reply arrives.

    Bytes left unread would make the kernel send a reset, which can overtake a reply: what is there is read first.
    """
    try:
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(65536, socket.MSG_DONTWAIT):
            pass
    except OSError:
        pass
    sock.close()


def host_of(address: Any) -> str:
    """Return the host of a peer; empty for loopback and for a Unix socket, which have no bound of their own.

    Of an IPv6 host it is the network of 64 bits: whoever has one address there has all of them.
    """
    if not isinstance(address, tuple):
        return ""
    host = str(address[0]).removeprefix("::ffff:")
    if host.startswith("127.") or host == "::1":
        return ""
    if ":" in host:
        packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
        return f"{socket.inet_ntop(socket.AF_INET6, packed[:8] + bytes(8))}/64"
    return host


def held_input(session: Conversation) -> int:
    """Return the bytes of a line whose end has not arrived."""
    partial = session.partial
    return 0 if partial is None else len(partial)
