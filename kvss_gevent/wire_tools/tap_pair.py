"""The two connections of one tapped client: what comes from one is sent on the other, and told to a recorder."""

import os
import select
import socket
import struct
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from kvss_gevent.wire_tools.tcp_frames import MAX_DATA_BYTES, Way

CONNECT_LIMIT_S: Final = 5.0
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


class TapLoop(Protocol):
    """What a pair needs of the loop that runs it."""

    unrecorded: list[tuple[Callable[..., None], tuple[Any, ...]]]
    """Calls of recorders that are still to be made, in order."""

    def add(self, pair: "TappedPair") -> None:
        """Watch the two sockets of a pair."""

    def watch(self, side: "TapSide") -> None:
        """Register the changed mask of a side."""

    def remove(self, pair: "TappedPair") -> None:
        """Forget a pair, before its sockets are closed."""

    def connected(self) -> None:
        """Note that the target can be reached."""

    def refused(self, failure: int) -> None:
        """Say that the target cannot be reached, and why, as an errno."""


class TappedPair:
    """A client's connection, its connection to the target, and its recorder."""

    __slots__ = ("connecting", "deadline_s", "record", "recorder", "sides", "tap")

    def __init__(self, client: socket.socket, server: socket.socket, recorder: TapRecorder, tap: TapLoop) -> None:
        self.recorder, self.tap, self.record = recorder, tap, tap.unrecorded.append
        self.connecting = True
        self.deadline_s = time.monotonic() + CONNECT_LIMIT_S
        near = TapSide(client, Way.TO_SERVER, self, mask=0)
        far = TapSide(server, Way.TO_CLIENT, self, mask=select.EPOLLOUT)
        near.other, far.other = far, near
        self.sides = (near, far)
        tap.add(self)

    def connected(self) -> None:
        """Begin to pass bytes on."""
        self.connecting = False
        self.tap.connected()
        self.record((self.recorder.opened, (time.time_ns(),)))
        for side in self.sides:
            side.look_for(select.EPOLLIN)

    def refuse(self, failure: int) -> None:
        """Reset the client, because the target did not accept; failure is an errno."""
        self.record((self.recorder.refused, (time.time_ns(), os.strerror(failure).lower())))
        self.tap.refused(failure)
        self.break_off()

    def reset_by(self, way: Way) -> None:
        """Reset both sides after one side has reset."""
        self.record((self.recorder.reset, (way, time.time_ns())))
        self.break_off()

    def break_off(self) -> None:
        """Reset both sides."""
        self.tap.remove(self)
        for side in self.sides:
            break_off(side.sock)

    def close_if_done(self) -> None:
        """Close both sides once both have ended and everything is passed on."""
        if all(side.ended and not side.unsent for side in self.sides):
            self.tap.remove(self)
            for side in self.sides:
                side.sock.close()


class TapSide:
    """One socket of a pair. way is the direction of the bytes it receives; unsent is what it could not send yet."""

    __slots__ = ("ended", "fd", "heard", "mask", "other", "pair", "record", "recv", "send", "sock", "unsent", "way")
    other: "TapSide"

    def __init__(self, sock: socket.socket, way: Way, pair: TappedPair, mask: int) -> None:
        self.sock, self.way, self.pair, self.mask = sock, way, pair, mask
        self.fd, self.recv, self.send = sock.fileno(), sock.recv, sock.send
        self.record, self.heard = pair.record, pair.recorder.heard
        self.unsent: memoryview | bytes = b""
        self.ended = False

    def look_for(self, mask: int) -> None:
        """Change the events that are waited for."""
        if mask != self.mask:
            self.mask = mask
            self.pair.tap.watch(self)

    def on_events(self, events: int) -> None:
        """Act on events of this socket."""
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


def break_off(sock: socket.socket) -> None:
    """Close with a reset (RST) instead of a FIN."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    except OSError:
        pass
    sock.close()
