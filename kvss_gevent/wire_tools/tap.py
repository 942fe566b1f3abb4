"""A proxy that passes bytes on unchanged. After it has passed a piece on, it gives the piece to a recorder.

It is one thread with one epoll (Linux), because a proxy delays replies mostly by its wake-ups. This way a piece costs
three system calls; a greenlet for each direction takes twice the CPU. After each piece the thread polls for the next
one before it sleeps: this delays a reply 20 us less, and takes up to SPIN_NS of CPU for each piece. The recorder gets
several pieces together, or all when no more come: one by one, with cold caches, it caused a third of the delay.
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
RECORD_S: Final = 0.02
"""Time until the recorder gets the waiting pieces, at most."""
SPIN_NS: Final = 50_000
MAX_UNRECORDED: Final = 16
"""Pieces that wait for the recorder; recording them takes about 0.1 ms."""
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class TapRecorder(Protocol):
    """Records one connection. Times are nanoseconds since 1970. No call may wait."""

    def opened(self, time_ns: int) -> None:
        """The target has accepted the connection."""

    def refused(self, time_ns: int, why: str) -> None:
        """The target did not accept it. No call follows."""

    def heard(self, way: Way, time_ns: int, data: bytes) -> None:
        """Bytes were passed on."""

    def ended(self, way: Way, time_ns: int) -> None:
        """The side that sends in this direction sends no more; the other side may."""

    def reset(self, way: Way, time_ns: int) -> None:
        """The side that sends in this direction reset the connection. No call follows."""


class RecorderFactory(Protocol):
    """Makes the recorder of a connection from the client's address and the address that it connected to."""

    def __call__(self, client: tuple[str, int], server: tuple[str, int]) -> TapRecorder: ...


class Tap:
    """Accepts clients on a listening socket and connects each to the target.

    tell gets a line of text when the target cannot be reached or a client is sent away. Raises OSError if the target's
    name is unknown.
    """

    def __init__(
        self, listener: socket.socket, target: Endpoint, make_recorder: RecorderFactory, tell: Callable[[str], None]
    ) -> None:
        self._target, self._make_recorder, self._tell = target, make_recorder, tell
        self._family: int
        self._address: Any
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        self._family, _, _, _, self._address = found[0]
        self._told = ""
        self._listener = listener
        self._poll = select.epoll()
        # On one processor the server could not answer meanwhile.
        self._spin_ns = SPIN_NS if len(os.sched_getaffinity(0)) > 1 else 0
        self._pairs: set[_Pair] = set()
        self._sides: dict[int, _Side] = {}
        self.unrecorded: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        """Calls of recorders that are still to be made, in order."""
        listener.setblocking(False)
        self._poll.register(listener, select.EPOLLIN)

    def run(self, stopped: Callable[[], bool]) -> None:
        """Pass bytes on until stopped() is true, which is checked every POLL_S; then reset all connections."""
        sides, listening_fd, unrecorded, late_s = self._sides, self._listener.fileno(), self.unrecorded, 0.0
        found: list[tuple[int, int]] = []
        try:
            while not stopped():
                found = self._next_events(self._spin_ns if found else 0)
                for fd, events in found:
                    if fd == listening_fd:
                        self._accept()
                    elif side := sides.get(fd):  # none if an event before this one closed it
                        side.on_events(events)
                if unrecorded and (not found or len(unrecorded) >= MAX_UNRECORDED):
                    self._record()
                if (now_s := time.monotonic()) > late_s:
                    late_s = now_s + POLL_S
                    self._give_up_late(now_s)
                    self._poll.modify(self._listener, select.EPOLLIN)
        finally:
            for pair in list(self._pairs):
                pair.break_off()
            self._record()
            self._poll.close()

    def _next_events(self, spin_ns: int) -> list[tuple[int, int]]:
        """Return the events that come within spin_ns; if none, sleep until some come or other work is due."""
        end_ns = time.monotonic_ns() + spin_ns
        while time.monotonic_ns() < end_ns:
            if found := self._poll.poll(0):
                return found
        return self._poll.poll(RECORD_S if self.unrecorded else POLL_S)

    def _record(self) -> None:
        for call, arguments in self.unrecorded:
            call(*arguments)
        self.unrecorded.clear()

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._tell_once(f"clients wait: {error.strerror}")
                self._poll.modify(self._listener, 0)  # until the next POLL_S; else the loop would never sleep
            return  # or the client has left already
        if len(self._pairs) >= MAX_CONNECTIONS:
            _break_off(client)
            self._tell_once(f"a client was sent away: there are {MAX_CONNECTIONS} connections")
            return
        try:
            recorder = self._make_recorder(client.getpeername()[:2], client.getsockname()[:2])
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
        """Say that the target cannot be reached."""
        self._tell_once(f"no connection to {self._target}: {os.strerror(failure).lower()}")

    def connected(self) -> None:
        """Note that the target can be reached, so that the next failure is told again."""
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
        """Register the changed mask of a side."""
        self._poll.modify(side.fd, side.mask)

    def remove(self, pair: "_Pair") -> None:
        """Forget a pair, before its sockets are closed."""
        self._pairs.discard(pair)
        for side in pair.sides:
            if self._sides.pop(side.fd, None):
                self._poll.unregister(side.fd)


class _Pair:
    """A client's connection, its connection to the target, and its recorder."""

    __slots__ = ("connecting", "deadline_s", "record", "recorder", "sides", "tap")

    def __init__(self, client: socket.socket, server: socket.socket, recorder: TapRecorder, tap: Tap) -> None:
        self.recorder, self.tap, self.record = recorder, tap, tap.unrecorded.append
        self.connecting = True
        self.deadline_s = time.monotonic() + CONNECT_LIMIT_S
        self.sides = (_Side(client, Way.TO_SERVER, self, mask=0), _Side(server, Way.TO_CLIENT, self, select.EPOLLOUT))
        self.sides[0].other, self.sides[1].other = self.sides[1], self.sides[0]
        tap.add(self)

    def connected(self) -> None:
        self.connecting = False
        self.tap.connected()
        self.record((self.recorder.opened, (time.time_ns(),)))
        for side in self.sides:
            side.look_for(select.EPOLLIN)

    def refuse(self, failure: int) -> None:
        self.record((self.recorder.refused, (time.time_ns(), os.strerror(failure).lower())))
        self.tap.refused(failure)
        self.break_off()

    def reset_by(self, way: Way) -> None:
        """Reset both sides after one side has reset."""
        self.record((self.recorder.reset, (way, time.time_ns())))
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
    """One socket of a pair. way is the direction of the bytes it receives; unsent is what it could not send yet."""

    __slots__ = ("ended", "fd", "heard", "mask", "other", "pair", "record", "recv", "send", "sock", "unsent", "way")
    other: "_Side"

    def __init__(self, sock: socket.socket, way: Way, pair: _Pair, mask: int) -> None:
        self.sock, self.way, self.pair, self.mask = sock, way, pair, mask
        self.fd, self.recv, self.send = sock.fileno(), sock.recv, sock.send
        self.record, self.heard = pair.record, pair.recorder.heard
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
            self.pair.break_off()  # the client left before the target accepted
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
            self.record((self.heard, (self.way, now_ns, data)))
            return self.pair.reset_by(other.way)
        self.record((self.heard, (self.way, now_ns, data)))
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
        """Pass on that this side sends no more. The other side has nothing unsent: else this one would not be read."""
        self.ended = True
        self.record((self.pair.recorder.ended, (self.way, time.time_ns())))
        self.look_for(self.mask & ~select.EPOLLIN)
        try:
            self.other.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the other side has reset, and its own event says so
        self.pair.close_if_done()


def _break_off(sock: socket.socket) -> None:
    """Close with a reset (RST) instead of a FIN."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    except OSError:
        pass
    sock.close()
