"""The connections of one run of a case: what is sent and received, and whether they end as they should."""

import time
from collections import deque
from typing import Final

from kvss_gevent.conformance.case import Line, Send, packets
from kvss_gevent.conformance.deadline import Deadline
from kvss_gevent.conformance.peer import BYTE_GAP_S, PACKET_GAP_S, NoReply, Peer
from kvss_gevent.conformance.running.opening import open_peer
from kvss_gevent.conformance.running.probe import Target
from kvss_gevent.conformance.score import Packet, TimedRequest
from kvss_gevent.protocol.wire import shorten

MOST_PACKETS: Final = 40
"""So many of a case's packets are kept, the last ones."""
_EXTRA_S: Final = 0.5
_CLOSES_S: Final = 0.15
_QUIET_S: Final = 0.05
"""How long to wait for bytes that should not come: _EXTRA_S after one more request, _QUIET_S if none can be sent."""


class StepFailed(Exception):
    """A step of a case failed. silent: no reply came in time. picture: the requests of a lost contest."""

    def __init__(
        self,
        expected: str,
        received: str,
        *,
        silent: bool = False,
        closed: bool = False,
        picture: tuple[TimedRequest, ...] = (),
    ) -> None:
        super().__init__(received)
        self.closed = closed
        self.picture = picture
        self.expected = expected
        self.received = received
        self.silent = silent


class CaseConnections:
    """The connections of one run of one case, and the packets that they sent and received.

    sent: the connection and the shown text of each packet. packets: all packets with their times. last_sent_on: the
    connection of the step before, if that step sent something.
    """

    def __init__(self, target: Target, deadline: Deadline) -> None:
        self.sent: list[tuple[str, str]] = []
        self.packets: deque[Packet] = deque(maxlen=MOST_PACKETS)
        self.last_sent_on: str | None = None
        self._target = target
        self._deadline = deadline
        self._peers: dict[str, Peer] = {}
        self._began = time.monotonic()

    def heard(self) -> bool:
        """Tell whether the server has sent anything."""
        return any(peer.heard_bytes for peer in self._peers.values())

    def shown(self) -> tuple[str, ...]:
        """Return what was sent, with the connection's name if there are several."""
        several = len(self._peers) > 1
        return tuple(f"({name}) {text}" if several and name else text for name, text in self.sent)

    def close(self) -> None:
        """Close all connections."""
        for peer in self._peers.values():
            peer.close()

    def peer(self, name: str) -> Peer:
        """Return the connection with a name; the first call makes it. Raises Gone."""
        if name not in self._peers:

            def note(sent: bool, data: bytes, end: str) -> None:
                shown = shorten(data) if data else ""
                self.packets.append(Packet(name, sent, time.monotonic() - self._began, shown, end))

            self._peers[name] = open_peer(self._target.address, self._deadline, self._target.dialect, note)
        return self._peers[name]

    def send(self, step: Send) -> None:
        """Send the packets of a step, each after the server has read the one before. Raises Gone, StepFailed."""
        peer = self.peer(step.on)
        parts = packets(step)
        self.sent.append((step.on, shorten(step.data) + (f" in {len(parts)} packets" if step.cut else "")))
        for packet in parts:
            if self.last_sent_on == step.on:
                peer.await_read(BYTE_GAP_S if step.cut else PACKET_GAP_S)
            self.last_sent_on = step.on
            self.put(step.on, packet)

    def put(self, name: str, packet: bytes) -> None:
        """Send one packet at once. Raises Gone, StepFailed."""
        try:
            self.peer(name).send(packet)
        except NoReply as stuck:
            raise StepFailed("the server reads the request", stuck.why, silent=True) from None

    def line(self, expected: str, name: str, line: Line = b"") -> bytes:
        """Return the next reply line on a connection. expected: what the failure shows. Raises Gone, StepFailed."""
        try:
            return self.peer(name).line(line if isinstance(line, bytes) else b"")
        except NoReply as missing:
            received = f"{shorten(missing.rest)}, then {missing.why}" if missing.rest else missing.why
            raise StepFailed(expected, received, silent=missing.waited, closed=not missing.waited) from None

    def check_closed(self, name: str) -> None:
        """Check that the server closes a connection and sends nothing before. Raises StepFailed."""
        expected = "the server closes the connection"
        peer = self.peer(name)
        try:
            more = self._rest_or_answer(peer) if self._can_ask(peer) else peer.rest()
        except NoReply as open_still:
            received = f"{open_still.why}: the connection stays open"
            raise StepFailed(expected, received, silent=True) from None
        if more and more.startswith(self._target.marker or more + b"-"):
            raise StepFailed(expected, "one more request is answered: the connection stays open")
        if more:
            raise StepFailed(expected, f"{shorten(more)} first")

    def check_nothing_more(self) -> None:
        """Check that nothing follows the last reply: one more request must get its own reply and no other (rule 11).

        This does not judge whether the connection is still open: a case about that sends another request itself.
        """
        peers = [peer for peer in self._peers.values() if not peer.left]
        for other in peers[:-1]:
            if pending := other.pending():
                raise StepFailed("nothing more", shorten(pending))
        if not peers:
            return
        peer = peers[-1]
        before = tuple(self.packets)
        can_ask = self._can_ask(peer)
        peer.deadline = Deadline(min(_EXTRA_S, self._deadline.left_s()) if can_ask else _QUIET_S)
        try:
            if can_ask:
                peer.send(b"KV/1.0 GET " + self._target.end_key + b"\n")
                line = peer.line()
                extra = None if line == self._target.marker else line
            else:
                extra = peer.rest() or None
        except NoReply as silence:
            extra = silence.rest or None
        if extra is not None:
            raise StepFailed("nothing more", shorten(extra))
        self.packets.clear()  # these packets do not belong to the case
        self.packets.extend(before)

    def _rest_or_answer(self, peer: Peer) -> bytes:
        """Return what arrives before the end. If none comes soon, send a request: a reply proves that it is open."""
        deadline, peer.deadline = peer.deadline, Deadline(_CLOSES_S)
        try:
            return peer.rest()
        except NoReply:
            peer.deadline = deadline
            peer.send(b"KV/1.0 GET " + self._target.end_key + b"\n")
            return peer.rest()
        finally:
            peer.deadline = deadline

    def _can_ask(self, peer: Peer) -> bool:
        return self._target.marker is not None and not peer.half_closed and peer.between_lines
