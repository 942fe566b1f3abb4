"""Plays the clients of a scene against a server and notes the times of what happens.

All clients are in one thread that waits in select, because a client that polls would take a core from the server. The
kernel stamps each packet when it arrives, so that a late reply and a late client can be told apart.
"""

import contextlib
import selectors
import socket
import struct
import time
from collections.abc import Callable

from kvss_gevent.protocol.wire import Verb, build_request
from kvss_gevent.trace.scenes.played import Asked, Played, ThreadTimes
from kvss_gevent.trace.scenes.scene import Ask, Scene, SceneClient

SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("@qq")
RECV_BYTES = 256 << 10
DRAIN_MS = 20_000.0
"""How long to wait for replies after the end of the scene."""
SETUP_LIMIT_S = 20.0
WARM_UP = build_request(Verb.GET, b"warm-up")
LEAD_MS = 30.0
"""Time between the setup and the start of the scene, in which the server becomes idle."""
LOOK_NS = 1_000_000
"""After a reply that took longer, the times of the server's threads are read: 0.04 ms for one thread, 0.4 ms for nine.
"""


class PlayError(Exception):
    """A scene could not be played to its end; the message says why."""


class _Player:
    """One client while it is played."""

    def __init__(self, number: int, plan: SceneClient, address: tuple[str, int], start_ns: int) -> None:
        self.number, self.plan, self.address, self.start_ns = number, plan, address, start_ns
        self.sock: socket.socket | None = None
        self.asks = list(plan.asks)
        self.asked: list[Asked] = []
        self.unsent = memoryview(b"")
        self.rest = memoryview(b"")
        self.received_bytes = 0
        self.lines_due = 0
        self.at_line_start = True
        self.left_ns = 0
        self.gone = False

    def due_ms(self) -> float | None:
        """Return when this client must act, in ms of the scene; None while it only waits for the server."""
        if self.gone:
            return None
        if self.sock is None:
            return self.plan.connects_ms
        if self.rest:
            return self.current_ask.rest_at_ms
        if self.lines_due:
            return self.plan.deaf_ms[1] if self.is_deaf() else None
        return self.asks[0].at_ms if self.asks else self.plan.leaves_ms

    def has_asked(self) -> bool:
        """Tell whether all its requests that are not optional are answered: a busy machine must not shorten a scene."""
        return not self.lines_due and all(ask.optional for ask in self.asks)

    def is_deaf(self) -> bool:
        """Tell whether it does not read at this time."""
        first_ms, last_ms = self.plan.deaf_ms
        return first_ms <= (time.monotonic_ns() - self.start_ns) / 1e6 < last_ms

    def act(self, now_ms: float) -> None:
        """Do what is due."""
        if self.sock is None:
            self._connect()
        elif self.rest:
            self.asked[-1].rest_ns = time.monotonic_ns()
            self.unsent, self.rest = self.rest, memoryview(b"")
            self.send()
        elif self.lines_due:
            return
        elif self.asks:
            self._ask(self.asks.pop(0))
            while self.asks and self.asks[0].optional and self.asks[0].at_ms <= now_ms:
                self.asks.pop(0)
        else:
            self.leave()

    def _connect(self) -> None:
        sock = socket.socket()
        if self.plan.receive_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.plan.receive_bytes)
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.connect(self.address)
        sock.setblocking(False)
        self.sock = sock

    def _ask(self, ask: Ask) -> None:
        self.current_ask = ask
        first = self.asked[-1].end_byte if self.asked else 0
        reply_first = self.asked[-1].reply_end_byte if self.asked else 0
        asked = Asked(self.number, ask.label, first, first + len(ask.packet), time.monotonic_ns())
        asked.reply_first_byte = reply_first
        self.asked.append(asked)
        self.lines_due = ask.packet.count(b"\n")
        view = memoryview(ask.packet)
        half = len(view) if ask.rest_at_ms is None else len(view) // 2
        self.unsent, self.rest = view[:half], view[half:]
        self.send()

    def send(self) -> None:
        """Send what the kernel takes."""
        assert self.sock is not None
        asked = self.asked[-1]
        with contextlib.suppress(BlockingIOError):
            sent = self.sock.send(self.unsent)
            self.unsent = self.unsent[sent:]
        now_ns = time.monotonic_ns()
        asked.sent_first_ns = asked.sent_first_ns or now_ns
        if not self.unsent and not self.rest:
            asked.sent_ns = now_ns

    def receive(self, to_monotonic_ns: int) -> int:
        """Receive; if the replies are complete now, return how long they took, in ns, else 0.

        Raises PlayError if the server has ended the connection.
        """
        assert self.sock is not None
        try:
            data, ancillary, _, _ = self.sock.recvmsg(RECV_BYTES, 128)
        except BlockingIOError:
            return 0
        now_ns = time.monotonic_ns()
        if not data:
            raise PlayError(f"the server ended the connection of client {self.number}")
        self.received_bytes += len(data)
        if not self.asked:
            raise PlayError(f"a reply came to client {self.number}, which has not asked yet")
        asked = self.asked[-1]
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
                seconds, nanoseconds = _TIMESPEC.unpack(content[: _TIMESPEC.size])
                asked.delivered_ns = min(seconds * 10**9 + nanoseconds + to_monotonic_ns, now_ns)
        if self.at_line_start and len(asked.codes) < 8:
            code = data[:3].decode("ascii", "replace")
            asked.codes[code] = asked.codes.get(code, 0) + 1
        self.at_line_start = data.endswith(b"\n")
        self.lines_due -= data.count(b"\n")
        if self.lines_due:
            return 0
        asked.received_ns = now_ns
        asked.reply_end_byte = self.received_bytes
        return now_ns - asked.began_ns

    def leave(self) -> None:
        """Close the connection."""
        self.gone = True
        self.left_ns = time.monotonic_ns()
        if self.sock is not None:
            self.sock.close()


def realtime_to_monotonic_ns() -> int:
    """Return what must be added to the kernel's stamps, from the quickest of several tries: each may be interrupted."""
    tries = []
    for _ in range(20):
        before = time.monotonic_ns()
        realtime = time.time_ns()
        after = time.monotonic_ns()
        tries.append((after - before, (before + after) // 2 - realtime))
    return min(tries)[1]


def play(
    scene: Scene,
    port: int,
    at_once: int = 1,
    look: Callable[[], ThreadTimes] = dict,
    at: Callable[[float], None] | None = None,
) -> Played:
    """Play a scene and return what the clients saw. Raises PlayError, OSError.

    at_once: the number of server processes that wait for clients; the scene begins when all of them are ready.
    look returns the times of the server's threads.
    at, if given, is called with the time in ms whenever the clients wake up; tests use it to disturb a scene.
    """
    address = ("127.0.0.1", port)
    _set_up(scene.setup or WARM_UP, address, at_once)
    time.sleep(LEAD_MS / 1000)
    start_ns = time.monotonic_ns()
    players = [_Player(number, plan, address, start_ns) for number, plan in enumerate(scene.clients, 1)]
    try:
        looks = _run(scene, players, start_ns, look, at)
    finally:
        for player in players:
            if not player.gone:
                player.leave()
    deaf = {
        player.number: (start_ns + int(first * 1e6), start_ns + int(last * 1e6))
        for player in players
        if (first := player.plan.deaf_ms[0]) < scene.length_ms and (last := player.plan.deaf_ms[1])
    }
    asked = [one for player in players for one in player.asked]
    left = {player.number: player.left_ns for player in players}
    return Played(start_ns, time.monotonic_ns(), sorted(asked, key=lambda one: one.began_ns), deaf, left, looks)


def _run(
    scene: Scene,
    players: list[_Player],
    start_ns: int,
    look: Callable[[], ThreadTimes],
    at: Callable[[float], None] | None,
) -> list[tuple[int, ThreadTimes]]:
    """Play until all clients have left; return the readings of the server's threads."""
    to_monotonic_ns = realtime_to_monotonic_ns()
    looks: list[tuple[int, ThreadTimes]] = []
    while True:
        now_ms = (time.monotonic_ns() - start_ns) / 1e6
        if at:
            at(now_ms)
        if now_ms > scene.length_ms + DRAIN_MS:
            waiting = [str(player.number) for player in players if player.lines_due]
            raise PlayError(f"no reply to client {', '.join(waiting)} within {now_ms / 1000:.1f} s")
        over = now_ms >= scene.length_ms
        for player in players:
            due_ms = player.due_ms()
            if over and not player.gone and player.has_asked():
                player.leave()
            elif due_ms is not None and due_ms <= now_ms:
                player.act(now_ms)
        if all(player.gone for player in players):
            return looks
        dues = [due for player in players if (due := player.due_ms()) is not None]
        next_ms = min([*dues, scene.length_ms if not over else scene.length_ms + DRAIN_MS])
        if _wait(players, max(next_ms - (time.monotonic_ns() - start_ns) / 1e6, 0) / 1000, to_monotonic_ns):
            looks.append((time.monotonic_ns(), look()))


def _wait(players: list[_Player], timeout_s: float, to_monotonic_ns: int) -> bool:
    """Wait, then send and receive; tell whether replies were completed that took longer than LOOK_NS."""
    slow = False
    with selectors.DefaultSelector() as selector:
        for player in players:
            wanted = selectors.EVENT_WRITE if player.unsent else 0
            if not player.is_deaf():
                wanted |= selectors.EVENT_READ
            if player.sock is not None and not player.gone and wanted:
                selector.register(player.sock, wanted, player)
        for key, ready in selector.select(timeout_s):
            if ready & selectors.EVENT_WRITE:
                key.data.send()
            if ready & selectors.EVENT_READ:
                slow |= key.data.receive(to_monotonic_ns) > LOOK_NS
    return slow


def _set_up(packet: bytes, address: tuple[str, int], at_once: int) -> None:
    """Have a packet answered on at_once connections at the same time: a process with a client accepts no other."""
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(socket.create_connection(address, SETUP_LIMIT_S)) for _ in range(at_once)]
        for sock in socks:
            sock.sendall(packet)
        for sock in socks:
            file = stack.enter_context(sock.makefile("rb"))
            for _ in range(packet.count(b"\n")):
                if not file.readline():
                    raise PlayError("the server ended the connection during the setup")
