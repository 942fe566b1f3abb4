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
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from kvss_gevent.settings.addresses import Endpoint
from kvss_gevent.wire_tools.tap_pair import TappedPair, TapRecorder, TapSide, break_off

MAX_CONNECTIONS: Final = 2000
POLL_S: Final = 0.2
RECORD_S: Final = 0.02
"""Time until the recorder gets the waiting pieces, at most."""
SPIN_NS: Final = 50_000
MAX_UNRECORDED: Final = 16
"""Pieces that wait for the recorder; recording them takes about 0.1 ms."""


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
        self._pairs: set[TappedPair] = set()
        self._sides: dict[int, TapSide] = {}
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
            client, peer = self._listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._tell_once(f"clients wait: {error.strerror}")
                self._poll.modify(self._listener, 0)  # until the next POLL_S; else the loop would never sleep
            return  # or the client has left already
        if len(self._pairs) >= MAX_CONNECTIONS:
            break_off(client)
            self._tell_once(f"a client was sent away: there are {MAX_CONNECTIONS} connections")
            return
        try:
            # A client that has reset already has no peer name any more.
            recorder = self._make_recorder(peer[:2], client.getsockname()[:2])
            server = socket.socket(self._family, socket.SOCK_STREAM)
        except OSError as error:
            break_off(client)
            self._tell_once(f"a client was sent away: {error.strerror}")
            return
        for sock in (client, server):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pair = TappedPair(client, server, recorder, self)
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

    def add(self, pair: TappedPair) -> None:
        """Watch the two sockets of a pair."""
        self._pairs.add(pair)
        for side in pair.sides:
            self._sides[side.fd] = side
            self._poll.register(side.fd, side.mask)

    def watch(self, side: TapSide) -> None:
        """Register the changed mask of a side."""
        self._poll.modify(side.fd, side.mask)

    def remove(self, pair: TappedPair) -> None:
        """Forget a pair, before its sockets are closed."""
        self._pairs.discard(pair)
        for side in pair.sides:
            if self._sides.pop(side.fd, None):
                self._poll.unregister(side.fd)
