"""A proxy that passes bytes on unchanged and tells a recorder of each piece, once it has been passed on.

One thread, one epoll (Linux): what a proxy adds to a reply's time is its wake-ups. This way a piece costs
three system calls; a greenlet for each direction costs twice the CPU. After each piece the thread looks for the next
one for a moment before it sleeps: that took 20 us off the added time, for up to SPIN_NS of CPU a piece. What was heard
is told some pieces at a time, or when nothing comes: told one by one, each with cold caches, it took a third of the
added time.
"""

import errno
import os
import select
import socket
import struct
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from kvss_gevent.settings.addresses import Endpoint
from kvss_gevent.wire_tools.tcp_frames import MAX_DATA_BYTES, Way

CONNECT_LIMIT_S: Final = 5.0
MAX_CONNECTIONS: Final = 2000
POLL_S: Final = 0.2
TELL_S: Final = 0.02
SPIN_NS: Final = 50_000 if len(os.sched_getaffinity(0)) > 1 else 0
"""On one processor the server could not answer meanwhile."""
MAX_UNTOLD: Final = 16
"""Pieces that the recorder has not been told yet; telling them takes about 0.1 ms."""
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class TapListener(Protocol):
    """What listens to one connection. Times are nanoseconds since 1970. No call may wait."""

    def opened(self, time_ns: int) -> None:
        """The target has taken the connection."""

    def refused(self, time_ns: int, why: str) -> None:
        """The target did not take it; nothing follows."""

    def heard(self, way: Way, time_ns: int, data: bytes) -> None:
        """Bytes came."""

    def ended(self, way: Way, time_ns: int) -> None:
        """This side sends no more; the other may."""

    def reset(self, way: Way, time_ns: int) -> None:
        """This side broke off; nothing follows."""


class Opening(Protocol):
    """Makes the recorder of a connection from the client's address and the one it connected to."""

    def __call__(self, client: tuple[str, int], server: tuple[str, int]) -> TapListener: ...


class Tap:
    """Accepts on a listening socket and connects each client to the target.

    tell takes one line for a person: that the target is not there. Raises OSError where the target's name is not known.
    """

    def __init__(
        self, listener: socket.socket, target: Endpoint, opening: Opening, tell: Callable[[str], None]
    ) -> None:
        self._target, self._opening, self._tell = target, opening, tell
        self._family: int
        self._address: Any
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        self._family, _, _, _, self._address = found[0]
        self._told = ""
        self._listener = listener
        self._poll = select.epoll()
        self._pairs: set[_Pair] = set()
        self._sides: dict[int, _Side] = {}
        self.untold: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        """Calls of recorders that are due, in order."""
        listener.setblocking(False)
        self._poll.register(listener, select.EPOLLIN)

    def run(self, stopped: Callable[[], bool]) -> None:
        """Pass bytes on until stopped() is true, which is asked every POLL_S; then break off what is open."""
        sides, door, untold, late_s = self._sides, self._listener.fileno(), self.untold, 0.0
        found: list[tuple[int, int]] = []
        try:
            while not stopped():
                found = self._next_events(SPIN_NS if found else 0)
                for fd, events in found:
                    if fd == door:
                        self._accept()
                    elif side := sides.get(fd):  # none: closed by an event before this one
                        side.on_events(events)
                if untold and (not found or len(untold) >= MAX_UNTOLD):
                    self._tell_recorders()
                if (now_s := time.monotonic()) > late_s:
                    late_s = now_s + POLL_S
                    self._give_up_late(now_s)
        finally:
            for pair in list(self._pairs):
                pair.break_off()
            self._tell_recorders()
            self._poll.close()

    def _next_events(self, spin_ns: int) -> list[tuple[int, int]]:
        """Return the events that come within spin_ns, else sleep until some come or it is time for something else."""
        end_ns = time.monotonic_ns() + spin_ns
        while time.monotonic_ns() < end_ns:
            if found := self._poll.poll(0):
                return found
        return self._poll.poll(TELL_S if self.untold else POLL_S)

    def _tell_recorders(self) -> None:
        for call, words in self.untold:
            call(*words)
        self.untold.clear()

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return  # it has left already
        if len(self._pairs) >= MAX_CONNECTIONS:
            _break_off(client)
            self._tell_once(f"a client was sent away: there are {MAX_CONNECTIONS} connections")
            return
        try:
            recorder = self._opening(client.getpeername()[:2], client.getsockname()[:2])
            server = socket.socket(self._family, socket.SOCK_STREAM)
        except OSError as error:
            _break_off(client)
            self._tell_once(f"a client was sent away: {error.strerror}")
            return
        for sock in (client, server):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pair = _Pair(client, server, recorder, self)
        failure = server.connect_ex(self._address)
        if failure not in (0, errno.EINPROGRESS):
            pair.refuse(failure)

    def _give_up_late(self, now_s: float) -> None:
        for pair in [pair for pair in self._pairs if pair.connecting and now_s > pair.deadline_s]:
            pair.refuse(errno.ETIMEDOUT)

    def refused(self, failure: int) -> None:
        """Say that the target is not there."""
        self._tell_once(f"no connection to {self._target}: {os.strerror(failure).lower()}")

    def connected(self) -> None:
        """The target is there (again)."""
        self._told = ""

    def _tell_once(self, line: str) -> None:
        if line != self._told:
            self._told = line
            self._tell(line)

    def add(self, pair: "_Pair") -> None:
        """Watch the two sockets of a pair."""
        self._pairs.add(pair)
        for side in pair.sides:
            self._sides[side.fd] = side
            self._poll.register(side.fd, side.mask)

    def watch(self, side: "_Side") -> None:
        """Follow a change of a side's mask."""
        self._poll.modify(side.fd, side.mask)

    def remove(self, pair: "_Pair") -> None:
        """Forget a pair, before its sockets are closed."""
        self._pairs.discard(pair)
        for side in pair.sides:
            if self._sides.pop(side.fd, None):
                self._poll.unregister(side.fd)


class _Pair:
    """A client, its connection to the target, and who listens."""

    __slots__ = ("connecting", "deadline_s", "recorder", "sides", "tap", "tell")

    def __init__(self, client: socket.socket, server: socket.socket, recorder: TapListener, tap: Tap) -> None:
        self.recorder, self.tap, self.tell = recorder, tap, tap.untold.append
        self.connecting = True
        self.deadline_s = time.monotonic() + CONNECT_LIMIT_S
        self.sides = (_Side(client, Way.TO_SERVER, self, mask=0), _Side(server, Way.TO_CLIENT, self, select.EPOLLOUT))
        self.sides[0].other, self.sides[1].other = self.sides[1], self.sides[0]
        tap.add(self)

    def connected(self) -> None:
        self.connecting = False
        self.tap.connected()
        self.tell((self.recorder.opened, (time.time_ns(),)))
        for side in self.sides:
            side.look_for(select.EPOLLIN)

    def refuse(self, failure: int) -> None:
        self.tell((self.recorder.refused, (time.time_ns(), os.strerror(failure).lower())))
        self.tap.refused(failure)
        self.break_off()

    def reset_by(self, way: Way) -> None:
        """One side broke off: so does the tap, on both."""
        self.tell((self.recorder.reset, (way, time.time_ns())))
        self.break_off()

    def break_off(self) -> None:
        self.tap.remove(self)
        for side in self.sides:
            _break_off(side.sock)

    def close_if_done(self) -> None:
        if all(side.ended and not side.unsent for side in self.sides):
            self.tap.remove(self)
            for side in self.sides:
                side.sock.close()


class _Side:
    """One socket of a pair; way is where its bytes go, unsent what it could not take yet of the other side's."""

    __slots__ = ("ended", "fd", "heard", "mask", "other", "pair", "recv", "send", "sock", "tell", "unsent", "way")
    other: "_Side"

    def __init__(self, sock: socket.socket, way: Way, pair: _Pair, mask: int) -> None:
        self.sock, self.way, self.pair, self.mask = sock, way, pair, mask
        self.fd, self.recv, self.send = sock.fileno(), sock.recv, sock.send
        self.tell, self.heard = pair.tell, pair.recorder.heard
        self.unsent: memoryview | bytes = b""
        self.ended = False

    def look_for(self, mask: int) -> None:
        if mask != self.mask:
            self.mask = mask
            self.pair.tap.watch(self)

    def on_events(self, events: int) -> None:
        if events & select.EPOLLIN and not self.pair.connecting and not self.ended:
            self._pass_on()
        elif self.pair.connecting:
            self._is_connected(events)
        elif events & select.EPOLLOUT and self.unsent:
            self._send_rest()
        elif events & (select.EPOLLERR | select.EPOLLHUP) and self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.pair.reset_by(self.way)

    def _is_connected(self, events: int) -> None:
        failure = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if self.way is Way.TO_SERVER:
            self.pair.break_off()  # the client has left before the target took it
        elif failure:
            self.pair.refuse(failure)
        elif events & select.EPOLLOUT:
            self.pair.connected()

    def _pass_on(self) -> None:
        try:
            data = self.recv(MAX_DATA_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            return self.pair.reset_by(self.way)
        if not data:
            return self._end()
        now_ns = time.time_ns()
        other = self.other
        try:
            sent = other.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.tell((self.heard, (self.way, now_ns, data)))
            return self.pair.reset_by(other.way)
        self.tell((self.heard, (self.way, now_ns, data)))
        if sent != len(data):
            other.unsent = memoryview(data)[sent:]
            other.look_for(other.mask | select.EPOLLOUT)
            self.look_for(self.mask & ~select.EPOLLIN)
        return None

    def _send_rest(self) -> None:
        try:
            self.unsent = self.unsent[self.send(self.unsent) :]
        except BlockingIOError:
            return None
        except OSError:
            return self.pair.reset_by(self.way)
        if not self.unsent:
            self.look_for(self.mask & ~select.EPOLLOUT)
            self.other.look_for(self.other.mask | select.EPOLLIN)
        return None

    def _end(self) -> None:
        """This side sends no more; the other hears of it. Nothing is unsent there: this side would not be read."""
        self.ended = True
        self.tell((self.pair.recorder.ended, (self.way, time.time_ns())))
        self.look_for(self.mask & ~select.EPOLLIN)
        try:
            self.other.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the other side has broken off, which its own event tells
        self.pair.close_if_done()


def _break_off(sock: socket.socket) -> None:
    """Close with a reset instead of an end."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    except OSError:
        pass
    sock.close()
