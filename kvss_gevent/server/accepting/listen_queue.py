"""The queue of a listening socket: clients that the kernel has connected, and that wait to be accepted.

A client that connects and leaves at once, again and again, fills the queue faster than a server can empty it. All
others then wait behind thousands of clients that are gone. So the queue is kept short while many clients leave. The
kernel drops connections that do not fit, which costs far less. A client that is dropped tries again after a second.
Clients that wait for their replies never make the queue shorter, however many they are.
"""

import socket
import struct
from typing import Any, Final

import gevent

from kvss_gevent.server.accepting.listener import BACKLOG

SHORT_BACKLOG: Final = 128
"""The length of the queue in a storm. While four clients stormed two workers, another client waited for 280 ms (median)
with 4096, for 4 ms with 256, and for 2 ms with 128."""
LEFT_EVERY: Final = 64
"""The length of the queue is checked each time that this many clients have left."""
STORM_S: Final = 1.0
"""The queue stays short for this long, and longer while at least LEFT_EVERY clients leave in each such time."""

LENGTH: Final = struct.Struct("24xI")
"""Offset in a listening socket's TCP_INFO of tcpi_unacked, which is the length of its queue."""


class ListenQueue:
    """The queue of one listening socket, which several workers may share."""

    def __init__(self, listener: Any) -> None:
        self._listener = listener
        self._left = 0
        self._restorer: Any = None

    def length(self) -> int:
        """Return how many clients wait to be accepted; 0 where the system does not tell."""
        try:
            info = self._listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, LENGTH.size)
            return int(LENGTH.unpack(info)[0])
        except (AttributeError, OSError, struct.error):
            return 0

    def note_left(self) -> None:
        """Note a client that left before it was accepted."""
        self._left += 1
        if self._left % LEFT_EVERY == 0 and self._restorer is None and self.length() > SHORT_BACKLOG:
            self._restorer = gevent.spawn(self._be_short)

    def close(self) -> None:
        """End the greenlet of the queue. Call it before the socket is closed."""
        if self._restorer:
            self._restorer.kill()

    def _be_short(self) -> None:
        """Run as a greenlet: keep the queue short until fewer clients leave."""
        left = -LEFT_EVERY
        while self._left - left >= LEFT_EVERY:
            left = self._left
            self._listener.listen(SHORT_BACKLOG)
            gevent.sleep(STORM_S)
        self._listener.listen(BACKLOG)
        self._restorer = None
