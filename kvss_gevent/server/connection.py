"""What the gevent server keeps for each connection, and how a connection is ended from outside."""

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

UNREAD_BYTES = 64 << 10
MOST_UNREAD_BYTES = 8 << 20
"""The most that is read of a client when its connection is closed. Linux lets a socket hold 6 MiB."""

LINE_OBJECT_BYTES = 56
"""What a line takes beside its bytes: the head of the object, and its place in a list."""


class Connection:
    """One client: its socket, its session, and its times for the timeouts."""

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

    def __init__(self, sock: socket.SocketType, transport: Transport, session: Conversation, address: Any) -> None:
        self.sock = sock
        self.transport = transport
        self.opened_s = time.monotonic()
        self.session = session
        self.address = address
        self.sending = False
        """Replies wait for the client, and the server does not read from it. So no timeout of reading counts."""
        self.ended = ""
        """Why the connection was ended from outside."""
        self.line: object | None = None
        self.line_since_s = 0.0
        self.quiet_since_s = 0.0
        self.wake: Callable[..., object] | None = None
        """Wakes the greenlet that waits for the socket; None while the connection hibernates, without a greenlet."""
        self.rests = False
        """The greenlet is to end if there is nothing to read. The connection stays open."""

    def __str__(self) -> str:
        return f"client {server_name(*self.address[:2])}" if self.address else "a client of the Unix socket"

    def untaken_bytes(self) -> int:
        """Return how many bytes the kernel still has to send to the client; 0 if the system does not tell."""
        if fcntl is None:
            return 0
        try:
            (number,) = struct.unpack("i", fcntl.ioctl(self.sock, termios.TIOCOUTQ, bytes(4)))
        except OSError:
            return 0
        return int(number)

    def stop_receiving(self) -> None:
        """End the session as if the client had closed its sending side: requests that were received are answered."""
        self.ended = self.ended or "the server stops"
        try:
            self.sock.shutdown(socket.SHUT_RD)
        except OSError:
            pass  # the client has closed it already

    def end(self, why: str, *, reset: bool = False) -> None:
        """End the connection from outside: its greenlet reads the end of the stream and closes it."""
        self.ended = why
        if reset:
            self.reset_on_close()
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the client has closed it already

    def reset_on_close(self) -> None:
        """Make the kernel drop the replies that the client did not take. Otherwise it keeps them for minutes."""
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)
        except OSError:
            pass


def close(sock: socket.SocketType) -> None:
    """Close a non-blocking socket so that the last reply still arrives.

    If bytes are unread, the kernel sends a reset, which can overtake a reply. So they are read first, but no more than
    a socket holds: a client that does not stop sending must not occupy the event loop.
    """
    try:
        sock.shutdown(socket.SHUT_WR)
        for _ in range(MOST_UNREAD_BYTES // UNREAD_BYTES):
            if not sock.recv(UNREAD_BYTES):
                break
    except OSError:
        pass
    sock.close()


def has_left(sock: socket.SocketType) -> bool:
    """Tell whether a new client has closed its connection and sent nothing.

    In a storm of connections most clients have. To accept and end one takes 45 us this way, and 90 us with a greenlet.
    """
    try:
        return not sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True


def host_of(address: Any) -> str:
    """Return the host of a peer; empty for loopback and Unix sockets, which have no bound of their own.

    For IPv6 it is the network of 64 bits: a host with one address there has all of them.
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


def as_lines_bytes(data: bytes) -> int:
    """Return the memory that received bytes take as lines that wait to be run."""
    return len(data) + LINE_OBJECT_BYTES * data.count(b"\n")


def held_input(session: Conversation) -> int:
    """Return the bytes of a line whose end has not arrived."""
    partial = session.partial
    return 0 if partial is None else len(partial)
